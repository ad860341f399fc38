"""Calls to Redis and Celery: those of one key (a job, an install) one after another, those of different keys at once.

A key's first call waits for nothing; each later one for the one before it, whether that did what it should or not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import redis

from tasks.cancelling import ended
from tasks.logs import event
from tasks.redis_client import retryable

log = logging.getLogger("pendra.bridge.dispatch")

RETRIES_S = (0.1, 0.25, *[0.5] * 16)  # for what must not be lost to a short outage: releases and cancels

CONNECTIONS = 16  # Redis calls at a time; a burst must neither exhaust the client's pool nor connect a hundred times

NO_ANSWER = (redis.RedisError, OSError)
"""What a call to Redis raises that did not do what it should."""

Step = Callable[[], Awaitable[object]]


class Calls:
    """Each call is a task of the event loop; asking for one never blocks. `turn`: held during each call to Redis."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(CONNECTIONS)
        self._last: dict[str, asyncio.Task[Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def in_order(self, key: str, step: Step) -> None:
        """Run `step` after everything asked for this key before. It may not raise."""
        before = self._last.get(key)

        async def run() -> None:
            if before is not None and not before.done():
                await asyncio.wait([before])
            await step()

        task = self._last[key] = self._start(run())
        task.add_done_callback(partial(self._forget, key))

    def insist_in_order(self, key: str, step: Step, action: str) -> None:
        """The same for a step that is to be insisted on."""
        self.in_order(key, partial(self.insist, step, action))

    def insist_at_once(self, step: Step, action: str) -> None:
        """Insist on it; it waits for nothing."""
        self._start(self.insist(step, action))

    async def insist(self, step: Step, action: str) -> bool:
        """Do it, and again for some seconds while Redis is away; whether it was done. `action`: to log if it was not.

        Redis lost = nothing left to release or stop.
        """
        for delay in (*RETRIES_S, None):
            try:
                async with self.turn:
                    await step()
            except NO_ANSWER as exc:
                if delay is None or not retryable(exc):
                    event(log, logging.ERROR, action, error=type(exc).__name__)
                    return False
                await asyncio.sleep(delay)
            else:
                return True
        return False

    async def settle(self) -> None:
        """Wait until everything asked for was done (or given up)."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """End what is still under way."""
        await ended(*self._tasks)

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _forget(self, key: str, task: asyncio.Task[Any]) -> None:
        if self._last.get(key) is task:
            del self._last[key]
