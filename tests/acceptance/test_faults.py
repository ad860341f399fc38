"""What an operator does to a running stack: kills parts, starts a second one, presses Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.acceptance.stack import MODEL, Stack, eventually, running

HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


@pytest.fixture(scope="module")
def fragile(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("fragile")
    with running(Stack(home, models_dir, args=("--workers", "1", "--slots", "4"))) as up:
        yield up


def answers(stack: Stack) -> bool:
    headers = {"Authorization": f"Bearer {stack.key}"}
    try:
        reply = httpx.post(f"{stack.url}/v1/chat/completions", json=HELLO, headers=headers, timeout=30)
    except httpx.HTTPError:
        return False
    return reply.status_code == 200


@pytest.mark.parametrize("role", ["worker", "bridge", "controlplane", "redis"])
def test_a_killed_part_is_restarted_and_serves_again(fragile: Stack, role: str) -> None:
    assert eventually(lambda: answers(fragile), 60)
    victim = fragile.processes(role)[0]["pid"]
    os.kill(victim, signal.SIGKILL)

    def replaced() -> bool:
        done = fragile.cli("status", "--json")
        return done.returncode == 0 and any(p["pid"] not in {victim, None} for p in fragile.processes(role))

    assert eventually(replaced, 60), f"{role} was not restarted"
    assert eventually(lambda: answers(fragile), 60), f"no answer after {role} was killed"


def test_a_second_up_on_the_same_home_says_so(fragile: Stack) -> None:
    done = fragile.cli("up", "--port", "0")
    assert done.returncode != 0
    assert "already" in done.stderr
    assert str(fragile.process.pid) in done.stderr


def test_a_second_up_on_the_same_port_says_so(fragile: Stack, tmp_path: Path) -> None:
    other = Stack(tmp_path / "other", fragile.models_dir, port=fragile.port)
    other.home.mkdir()
    done = other.cli("up", "--port", str(fragile.port))
    assert done.returncode != 0
    assert str(fragile.port) in done.stderr


def _tree(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(models_dir: Path, tmp_path: Path, how: signal.Signals) -> None:
    stack = Stack(tmp_path / "home", models_dir, args=("--slots", "2"))
    stack.start()
    children = _tree(stack.process.pid)
    assert len(children) >= 4
    stack.process.send_signal(how)
    code = stack.process.wait(60)
    gone = eventually(lambda: not [c for c in children if c.is_running() and c.status() != "zombie"])
    assert gone, [c.cmdline() for c in children if c.is_running()]
    if how is not signal.SIGKILL:
        assert code in {0, 130, 143}
