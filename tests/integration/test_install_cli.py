"""`pendra models` for hosts of the fleet, through their agents."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import cli
from tasks.settings import Settings
from tasks.settings_edit import env_of
from tests.fakes.waiting import PATIENCE_S, until
from tests.integration.install_host import NODE, Host
from tests.worker.store.models import SHA256, FileServer, serving

pytestmark = pytest.mark.integration


@pytest.fixture
def host(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for name in Settings.model_fields:
        monkeypatch.delenv(env_of(name), raising=False)
    here = tmp_path / "here"
    monkeypatch.setenv("PENDRA_HOME", str(here))
    monkeypatch.setenv("PENDRA_REDIS_URL", redis_url)
    there = tmp_path / "there"
    there.mkdir()
    with Host(redis_url, there) as made:
        yield made


def test_install_list_and_uninstall_on_another_host(host: Host, capsys: pytest.CaptureFixture[str]):
    with serving(FileServer()) as server:
        what = ["tiny:1", "--source", server.url, "--sha256", SHA256]
        assert cli.run(["models", "install", *what, "--node", NODE, "--wait"]) == 0
        assert f"{NODE}: done  {host.store / 'tiny.gguf'}" in capsys.readouterr().out
        assert cli.run(["models", "install", *what, "--all"]) == 0
        node, task_id = capsys.readouterr().out.split()
        assert node == NODE
        assert host.done(task_id)["result"]["fetched"] is False
    assert cli.run(["models", "list", "--all", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [model["id"] for model in found[NODE]] == ["tiny:1"]
    assert cli.run(["models", "list", "--node", NODE]) == 0
    assert capsys.readouterr().out.startswith(f"{NODE} ")
    assert cli.run(["models", "uninstall", "tiny:1", "--node", NODE]) == 0
    assert not (host.store / "tiny.gguf").exists()
    assert cli.run(["models", "uninstall", "tiny:1", "--node", NODE]) == 1
    assert "[model_not_installed]" in capsys.readouterr().err


def test_a_host_that_is_not_there_is_named(host: Host, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["models", "install", "smollm2:135m", "--node", "nowhere"]) == 1
    errors = capsys.readouterr().err
    assert "no installer agent answers on nowhere" in errors
    assert NODE in errors


def test_cancelled_while_the_agent_is_away(host: Host, capsys: pytest.CaptureFixture[str]):
    """Nobody hears the cancel; the install does not begin all the same."""
    host.stop()
    with serving(FileServer()) as server:
        task_id = host.ask(model="tiny:1", source=server.url, sha256=SHA256)
        assert cli.run(["models", "cancel", task_id]) == 0
        assert "has not begun yet will not" in capsys.readouterr().out
        host.start()
        assert "[cancelled]" in host.words(task_id)
    assert not (host.store / "tiny.gguf").exists()
    assert server.requests == []


def test_cancel_from_another_shell(host: Host, capsys: pytest.CaptureFixture[str]):
    with serving(FileServer(stalls=[50_000, 0, 0, 0])) as server:
        what = ["tiny:1", "--source", server.url, "--sha256", SHA256]
        codes: list[int] = []
        argv = ["models", "install", *what, "--node", NODE, "--wait"]
        waiting = threading.Thread(target=lambda: codes.append(cli.run(argv)))
        waiting.start()
        until(lambda: list(host.store.glob(".installs/*/tiny.gguf.part")), every_s=0.05)
        assert cli.run(["models", "cancel", "tiny:1", "--discard"]) == 0
        waiting.join(PATIENCE_S)
        assert not waiting.is_alive()
    said = capsys.readouterr()
    assert codes == [1]
    assert "1 running installs cancelled" in said.out
    assert f"{NODE}: [cancelled]" in said.err
    assert not list(host.store.glob(".installs/*/*"))
