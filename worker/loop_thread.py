"""An asyncio loop on a thread of its own, for jobs whose threads wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any

from tasks.cancelling import ended
from tasks.errors import JobCancelledError, UnavailableError
from worker.backends.base import CancelToken

_BEAT_S = 0.5
_CLOSE_S = 5.0


class LoopThread:
    """Runs from its making until `close`; `at_end` then runs on it last. Methods from any thread but its own."""

    def __init__(self, name: str, at_end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.beats = 0
        """Grows while the loop turns: what a watchdog looks at."""
        self._loop = asyncio.new_event_loop()
        self._at_end = at_end
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, make: Callable[[], Coroutine[Any, Any, None]], cancel: CancelToken) -> None:
        """Run a coroutine to its end; blocks, and raises what it raises.

        A cancel cancels it and is raised as JobCancelledError once it has really ended. Raises UnavailableError when
        closed.
        """
        if cancel.cancelled:
            raise JobCancelledError("the request was cancelled before it began")
        out: Future[None] = Future()
        self.post(lambda: self._start(make(), out, cancel))
        try:
            out.result()
        except CancelledError:
            raise JobCancelledError("the request was cancelled") from None

    def post(self, call: Callable[[], object]) -> None:
        """Call it on the loop soon. Raises UnavailableError(`draining`) when closed."""
        with self._lock:
            if self._closed:
                raise UnavailableError("this worker is shutting down; try again", code="draining")
            self._loop.call_soon_threadsafe(call)

    def close(self) -> None:
        """Cancel what runs, let it end, stop. Blocks for some seconds at most; idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)

    # ------------------------------------------------------------ on the loop

    def _start(self, work: Coroutine[Any, Any, None], out: Future[None], cancel: CancelToken) -> None:
        task = self._loop.create_task(work)
        task.add_done_callback(lambda done: _settle(done, out))
        cancel.on_cancel(lambda: self._cancel(task))

    def _cancel(self, task: asyncio.Task[None]) -> None:
        """From any thread; after the loop has ended there is nothing left to cancel."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(task.cancel)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._beat()
        self._loop.run_forever()
        self._loop.run_until_complete(_ended(asyncio.all_tasks(self._loop)))
        self._loop.run_until_complete(self._at_end())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _beat(self) -> None:
        self.beats += 1
        self._loop.call_later(_BEAT_S, self._beat)


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_S / 2):
            await ended(*tasks)


def _settle(task: asyncio.Task[None], out: Future[None]) -> None:
    if task.cancelled():
        out.cancel()
        out.set_running_or_notify_cancel()
    elif (exc := task.exception()) is not None:
        out.set_exception(exc)
    else:
        out.set_result(None)
