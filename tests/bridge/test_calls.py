"""The order of calls: one after another for a key, at once for different keys, again while Redis is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from bridge import calls as bridge_calls
from bridge.calls import Calls, Step


@pytest.fixture
async def calls(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Calls]:
    monkeypatch.setattr(bridge_calls, "RETRIES_S", (0.0, 0.0))
    made = Calls()
    yield made
    await made.close()


class Steps:
    """Steps that say when they begin and end. `gate` holds those up that wait for it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.gate = asyncio.Event()

    def step(self, name: str, *, waits: bool = False, fails: int = 0, problem: type[Exception] = OSError) -> Step:
        left = [fails]

        async def run() -> None:
            self.said.append(name)
            if waits:
                await self.gate.wait()
                self.said.append(f"{name} ends")
            if left[0]:
                left[0] -= 1
                raise problem

        return run


async def test_calls_of_one_key_follow_each_other_and_those_of_another_do_not_wait(calls: Calls) -> None:
    steps = Steps()
    calls.in_order("a", steps.step("a1", waits=True))
    calls.in_order("a", steps.step("a2"))
    calls.in_order("a", steps.step("a3"))
    calls.in_order("b", steps.step("b1"))
    calls.insist_at_once(steps.step("any"), "failed")
    for _ in range(3):
        await asyncio.sleep(0)
    assert steps.said == ["a1", "b1", "any"]
    steps.gate.set()
    await calls.settle()
    assert steps.said[3:] == ["a1 ends", "a2", "a3"]


async def test_what_redis_did_not_take_is_tried_again_before_the_next(calls: Calls) -> None:
    steps = Steps()
    calls.insist_in_order("a", steps.step("a1", fails=2, problem=redis.ConnectionError), "failed")
    calls.in_order("a", steps.step("a2"))
    await calls.settle()
    assert steps.said == ["a1", "a1", "a1", "a2"]


async def test_insisting_has_an_end_and_says_so(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    steps = Steps()
    assert not await calls.insist(steps.step("a1", fails=9), "slot.release_failed")
    assert steps.said == ["a1"] * 3
    assert [getattr(record, "action", "") for record in caplog.records] == ["slot.release_failed"]


async def test_what_no_later_try_would_change_is_not_tried_again(calls: Calls) -> None:
    steps = Steps()
    assert not await calls.insist(steps.step("a1", fails=9, problem=redis.ResponseError), "failed")
    assert steps.said == ["a1"]


async def test_a_step_that_works_is_done_once(calls: Calls) -> None:
    steps = Steps()
    assert await calls.insist(steps.step("a1"), "failed")
    assert steps.said == ["a1"]


async def test_at_the_end_nothing_is_under_way(calls: Calls) -> None:
    steps = Steps()
    calls.in_order("a", steps.step("a1", waits=True))
    calls.in_order("a", steps.step("a2"))
    await asyncio.sleep(0)
    await calls.close()
    await calls.settle()
    assert steps.said == ["a1"]


async def test_a_burst_of_calls_takes_only_so_many_connections(calls: Calls) -> None:
    steps = Steps()
    for n in range(3 * bridge_calls.CONNECTIONS):
        calls.insist_in_order(f"k{n}", steps.step("x", waits=True), "failed")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(steps.said) == bridge_calls.CONNECTIONS
    steps.gate.set()
    await calls.settle()
    assert len(steps.said) == 6 * bridge_calls.CONNECTIONS


async def test_nothing_is_kept_of_keys_whose_calls_are_done(calls: Calls) -> None:
    for n in range(10):
        calls.in_order(f"k{n}", Steps().step("x"))
    await calls.settle()
    await asyncio.sleep(0)
    assert not calls._last
