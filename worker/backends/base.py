"""What a backend is: it serves one job at a time per calling thread and speaks through the job's reply."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypedDict, Unpack

from tasks.contract import Job, Notice, Timing, Usage
from tasks.errors import PendraError


class Ending(TypedDict, total=False):
    """What a job that ended well says besides its reply; what is left out is empty."""

    usage: Usage
    timing: Timing
    notice: Notice | None


class Reply(Protocol):
    """How a job speaks: each call is one event with the next seq. Any thread; never blocks.

    `finish` and `fail` are terminal. Every method returns False, and does nothing, once a terminal event was given.
    """

    def progress(self, stage: str, fraction: float = 0.0) -> bool: ...
    def chunk(self, data: str, tokens: tuple[int, ...] | None = ()) -> bool: ...
    def finish(self, data: str | None = None, **ending: Unpack[Ending]) -> bool: ...
    def fail(self, error: PendraError) -> bool: ...


class StepPublisher(Protocol):
    """The publisher, as an engine's thread needs it."""

    def step(self, call: Callable[[], None]) -> None:
        """Run `call` on the publisher thread; what it emits to one bridge leaves as one message. Never blocks."""


class CancelToken:
    """Says once, from any thread, that nobody waits for a job any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def cancel(self) -> None:
        """Run the callbacks, on this thread, once. Idempotent."""
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call `callback` when cancelled: once, and at once when it is cancelled already. It must not block."""
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until cancelled. False after `timeout_s`."""
        return self._event.wait(timeout_s)


class Backend(Protocol):
    """Serves the jobs of one model, many threads at once."""

    def serve(self, job: Job, reply: Reply, cancel: CancelToken) -> None:
        """Run the job and block until its terminal event has been given to `reply`.

        Raises PendraError instead when nothing was replied yet (JobCancelledError when cancelled).
        """

    def close(self) -> None:
        """End what runs (with an error) and free the memory. Idempotent; blocks."""
