"""`pendra top`: once for scripts, live until q, and patient while Redis is away."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from rich.console import Console

from ops.cli import run
from ops.commands.top import looker, watch
from ops.keypress import Keys
from tasks.redis_client import connect
from tests.ops.test_fleet_reading import beat, worker


@pytest.fixture
def client(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    monkeypatch.setenv("PENDRA_REDIS_URL", redis_url)
    with connect(redis_url) as client:
        yield client


@pytest.mark.integration
def test_once(client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    beat(client, worker("wrk-a-cpu0", slots_busy=1))
    assert run(["top", "--once"]) == 0
    out = capsys.readouterr().out
    assert "1 worker on 1 host · 1/4 slots" in out
    assert "wrk-a-cpu0" in out
    assert "\x1b[" not in out


@pytest.mark.integration
def test_nobody_there_is_exit_status_3(client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["top", "--once"]) == 3
    assert "no worker is there" in capsys.readouterr().out


def test_no_redis_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    monkeypatch.setenv("PENDRA_REDIS_URL", "unix:///nowhere.sock")
    assert run(["top", "--once"]) == 1
    assert "redis_unavailable" in capsys.readouterr().err


class Typed(Keys):
    """Keys that were typed already; something happens before each."""

    def __init__(self, *typed: str) -> None:
        super().__init__()
        self._typed = list(typed)
        self.before: list[float] = []

    def wait(self, seconds: float) -> str:
        self.before.append(seconds)
        return self._typed.pop(0)


@pytest.mark.integration
def test_live_until_q(client: redis.Redis) -> None:
    beat(client, worker("wrk-a-cpu0"))
    out, keys = io.StringIO(), Typed("", "x", "q")
    watch(client, Console(file=out, force_terminal=True, width=120, height=30), keys, every=2.0)
    assert keys.before == [2.0, 2.0, 2.0]
    assert out.getvalue().count("wrk-a-cpu0") == 3  # the first picture, then one after each key but q
    assert out.getvalue().endswith("\x1b[?25h\x1b[?1049l")  # the cursor and the old screen are back


@pytest.mark.integration
def test_what_was_last_seen_stays_while_redis_is_away(client: redis.Redis) -> None:
    beat(client, worker("wrk-a-cpu0"))
    away = [False]

    class Flaky:
        def __getattr__(self, name: str) -> object:
            if away[0]:
                raise redis.ConnectionError("gone")
            return getattr(client, name)

    look = looker(Flaky())  # type: ignore[arg-type]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(look())
    away[0] = True
    console.print(look())
    text = console.export_text()
    assert text.count("wrk-a-cpu0") == 2
    assert text.count("Redis does not answer; what you see is old") == 1
