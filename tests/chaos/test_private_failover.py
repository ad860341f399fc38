"""A private stream outlives its worker: the official SDK checks every frame, and sees nothing but a pause."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pendra
import pytest

from tasks import keys
from tasks.contract import WorkerInfo
from tasks.redis_client import connect
from tests.acceptance.stack import MODEL, Stack, eventually, running
from tests.chaos.clients import ASKS
from tests.chaos.test_failover import serving, workers


@pytest.fixture(scope="module")
def stack(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("private")
    (home / "config.yaml").write_text("grace_seconds: 1.5\n")
    with running(Stack(home, models_dir, args=("--workers", "2", "--slots", "4")), workers=2) as up:
        yield up


@pytest.fixture
def sdk(stack: Stack, tmp_path: Path) -> Iterator[pendra.Pendra]:
    assert eventually(lambda: [info.slots_busy for info in workers(stack)] == [0, 0], 60)
    private = {"tofu_path": str(tmp_path / "known.json")}
    with pendra.Pendra(api_key=stack.key, base_url=stack.url, private_inference=private, timeout=90) as client:
        yield client


def read(sdk: pendra.Pendra, disturb: Callable[[], None] = lambda: None, after: int = 15) -> tuple[str, str, int]:
    """Text, worker and usage of a stream; `disturb` is called after some chunks. The SDK raises for a bad frame."""
    text, usage, seen = "", 0, 0
    ask = [{"role": "user", "content": ASKS[0]}]
    options = {"temperature": 0, "max_tokens": 200, "cache_prompt": False, "seed": 7}
    with sdk.chat.completions.create(model=MODEL, messages=ask, stream=True, **options) as stream:
        for chunk in stream:
            seen += 1
            if seen == after:
                disturb()
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            usage = chunk.usage.completion_tokens if chunk.usage else usage
        assert stream.worker is not None
        return text, stream.worker.id, usage


@pytest.fixture(scope="module")
def undisturbed(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    private = {"tofu_path": str(tmp_path_factory.mktemp("tofu") / "known.json")}
    with pendra.Pendra(api_key=stack.key, base_url=stack.url, private_inference=private, timeout=90) as client:
        text, _, usage = read(client)
    assert usage > 60, "too short to be disturbed"
    return text, usage


def test_a_killed_workers_private_stream_goes_on(
    stack: Stack, sdk: pendra.Pendra, undisturbed: tuple[str, int]
) -> None:
    victims: list[WorkerInfo] = []

    def kill() -> None:
        victims.append(serving(stack))
        os.kill(victims[0].pid, signal.SIGKILL)

    text, worker, usage = read(sdk, kill)
    assert (text, usage) == undisturbed
    assert worker != victims[0].worker_id


def test_a_frozen_worker_that_wakes_again_adds_nothing(
    stack: Stack, sdk: pendra.Pendra, undisturbed: tuple[str, int]
) -> None:
    zombies: list[WorkerInfo] = []

    def freeze() -> None:
        zombies.append(serving(stack))
        os.kill(zombies[0].pid, signal.SIGSTOP)

    try:
        text, worker, usage = read(sdk, freeze)
    finally:
        os.kill(zombies[0].pid, signal.SIGCONT)
    assert (text, usage) == undisturbed
    assert worker != zombies[0].worker_id
    assert eventually(lambda: len(workers(stack)) == 2 and not stack.slots_busy(), 20)


def test_when_redis_is_lost_the_stream_ends_in_a_stable_error(stack: Stack, sdk: pendra.Pendra) -> None:
    """Frames may have been lost with it, and nobody may seal others in their place."""
    pid = stack.processes("redis")[0]["pid"]
    with pytest.raises(pendra.APIStreamError) as caught:
        read(sdk, lambda: os.kill(pid, signal.SIGKILL))
    assert caught.value.code == 502
    assert "private reply" in str(caught.value)
    assert eventually(lambda: len(workers(stack)) == 2 and not stack.slots_busy(), 30)
    with contextlib.closing(connect(stack.status_url())) as redis:
        assert eventually(lambda: not [*redis.scan_iter(keys.job("*"))], 20), "a job was left behind"
