"""Tasks that miss a cancellation end all the same."""

from __future__ import annotations

import asyncio
import contextlib

from tasks.cancelling import ended


async def deaf(times: int) -> None:
    """Loses `times` cancellations, as `asyncio.wait_for` does in Python 3.11."""
    for _ in range(times):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    await asyncio.Event().wait()


async def clean(log: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.02)
        log.append("clean")


async def broken() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise RuntimeError("at the end")


async def running(*tasks: asyncio.Task[None]) -> tuple[asyncio.Task[None], ...]:
    await asyncio.sleep(0)
    return tasks


async def test_one_that_lost_its_cancellation_is_told_again() -> None:
    tasks = await running(*(asyncio.create_task(deaf(times)) for times in (0, 1, 3)))
    await ended(*tasks, again_s=0.01)
    assert all(task.cancelled() for task in tasks)


async def test_a_clean_up_is_waited_for_and_not_interrupted() -> None:
    log: list[str] = []
    tasks = await running(asyncio.create_task(clean(log)))
    await ended(*tasks)
    assert log == ["clean"]


async def test_errors_and_ends_of_before_are_no_matter() -> None:
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    await ended(done, *await running(asyncio.create_task(broken())))
    await ended()
