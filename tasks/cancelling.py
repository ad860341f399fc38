"""Ending tasks, also those that miss a cancellation.

A cancellation that arrives in the same turn of the event loop in which `asyncio.wait_for` gets its answer is lost in
Python 3.11 (https://github.com/python/cpython/issues/86296, mended in 3.12), and redis-py sends every command under
one. A loop that lost it would go on for ever, so it is told again.
"""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 2.0  # longer than an orderly clean-up takes: a second cancellation would interrupt it


async def ended(*tasks: asyncio.Future[Any], again_s: float = AGAIN_S) -> None:
    """Cancel `tasks` and wait until every one has ended, however it did."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again_s)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: nobody is to be warned of it
