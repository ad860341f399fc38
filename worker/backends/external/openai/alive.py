"""A server may be silent while it loads a model or reads a prompt: say meanwhile that the job is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tasks.cancelling import ended
from worker.backends.base import Reply

EVERY_S = 5.0  # well below what the watchdog and the API take for a stall


@asynccontextmanager
async def signs_of_life(reply: Reply, every_s: float = EVERY_S, stage: str = "waiting") -> AsyncIterator[None]:
    """Progress events every `every_s` while the block runs."""
    ticking = asyncio.create_task(_tick(reply, every_s, stage))
    try:
        yield
    finally:
        await ended(ticking)


async def _tick(reply: Reply, every_s: float, stage: str) -> None:
    await asyncio.sleep(every_s)
    while reply.progress(stage):  # noqa: ASYNC110  # nothing to wait for: it is a clock
        await asyncio.sleep(every_s)
