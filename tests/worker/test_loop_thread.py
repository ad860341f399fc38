"""Coroutines for threads: what they raise comes out, a cancel ends them, closing ends all."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tasks.errors import JobCancelledError, UnavailableError
from tests.fakes.backend_parts import Served
from tests.fakes.waiting import until
from worker.backends.base import CancelToken
from worker.loop_thread import LoopThread


class Work:
    """Runs until told; notes how it ended."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.ended = ""

    async def run(self) -> None:
        self.running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # closing a connection takes a moment, too
            self.ended = "cancelled"
            raise


async def nothing() -> None:
    pass


@pytest.fixture
def loop():
    thread = LoopThread("test-loop", nothing)
    yield thread
    thread.close()


def test_it_waits_for_the_end_and_raises_what_came(loop):
    async def fail() -> None:
        raise ValueError("so")

    loop.call(nothing, CancelToken())
    with pytest.raises(ValueError, match="so"):
        loop.call(fail, CancelToken())


def test_a_cancel_is_over_when_the_work_has_ended(loop):
    work, cancel = Work(), CancelToken()
    served = Served(lambda: loop.call(work.run, cancel))
    assert work.running.wait(30)
    cancel.cancel()
    assert isinstance(served.done(), JobCancelledError)
    assert work.ended == "cancelled"


def test_a_cancel_that_came_first_starts_nothing(loop):
    work, cancel = Work(), CancelToken()
    cancel.cancel()
    with pytest.raises(JobCancelledError):
        loop.call(work.run, cancel)
    assert not work.running.is_set()


def test_closing_ends_what_runs_and_takes_nothing_new():
    last = []

    async def at_end() -> None:
        last.append(work.ended)

    work, thread = Work(), LoopThread("test-loop", at_end)
    served = Served(lambda: thread.call(work.run, CancelToken()))
    assert work.running.wait(30)
    thread.close()
    thread.close()
    assert isinstance(served.done(), JobCancelledError)
    assert last == ["cancelled"], "requests are closed before what they use"
    with pytest.raises(UnavailableError, match="shutting down"):
        thread.call(nothing, CancelToken())


def test_a_late_cancel_finds_nothing():
    thread, cancel = LoopThread("test-loop", nothing), CancelToken()
    thread.call(nothing, cancel)
    thread.close()
    cancel.cancel()


def test_it_beats(loop):
    before = loop.beats
    until(lambda: loop.beats > before)
