"""One model being loaded, and everybody who waits for it."""

from __future__ import annotations

import threading
import time
from typing import Unpack

from tasks.contract import Timing
from tasks.errors import JobCancelledError, PendraError
from worker.backends.base import CancelToken, Ending, Reply

_TELL_EVERY = 0.05  # of the whole
_TELL_EVERY_S = 1.0  # also when little moved: silence looks like a fault


class Load:
    """`join` on the threads of those who wait, `progress` and `finish` on the thread that loads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[Reply | None, CancelToken]] = []
        self._joined = False
        self._stopped = False
        self._over = False
        self._error: PendraError | None = None
        self._fraction = 0.0
        self._told = (0.0, time.monotonic())

    def join(self, reply: Reply | None, cancel: CancelToken) -> None:
        """Block until the load is over, telling `reply` how far it is. Raises what it failed with.

        Also returns when it was given up because all others had left: look again, and load again. Raises
        JobCancelledError when `cancel` comes first.
        """
        with self._changed:
            self._joined = True
            self._waiting.append((reply, cancel))
            fraction = self._fraction
        if reply is not None:
            reply.progress("loading", fraction)
        cancel.on_cancel(self._wake)
        with self._changed:
            self._changed.wait_for(lambda: self._over or cancel.cancelled)
            self._waiting.remove((reply, cancel))
            if cancel.cancelled:
                raise JobCancelledError("the request was cancelled while its model was loading")
            if self._error is not None and not isinstance(self._error, JobCancelledError):
                raise again(self._error)

    def progress(self, fraction: float) -> bool:
        """0–1. False: nobody waits any more, give up."""
        with self._changed:
            self._fraction = fraction
            if self._stopped or (self._joined and all(cancel.cancelled for _, cancel in self._waiting)):
                return False
            told, at = self._told
            now = time.monotonic()
            if fraction - told < _TELL_EVERY and now - at < _TELL_EVERY_S:
                return True
            self._told = (fraction, now)
            replies = [reply for reply, _ in self._waiting if reply is not None]
        for reply in replies:
            reply.progress("loading", fraction)
        return True

    def stop(self) -> None:
        """Give up at the next sign of progress. Any thread."""
        self._stopped = True

    def finish(self, error: PendraError | None = None) -> None:
        with self._changed:
            self._over = True
            self._error = error
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


def again(error: PendraError) -> PendraError:
    """The same error to raise once more: an exception object gathers the frames of every raise, and all they hold."""
    return type(error)(error.message, code=error.code, param=error.param, retry_after=error.retry_after)


class TimedReply:
    """A reply whose timing also says how long the request waited for its model to load (0 = it was in memory)."""

    def __init__(self, reply: Reply, load_ms: float) -> None:
        self._reply = reply
        self._load_ms = load_ms
        self.progress = reply.progress
        self.chunk = reply.chunk
        self.fail = reply.fail

    def finish(self, data: str | None = None, **ending: Unpack[Ending]) -> bool:
        load = {"model_load_ms": self._load_ms, "cold_start": self._load_ms > 0}
        ending["timing"] = ending.get("timing", Timing()).model_copy(update=load)
        return self._reply.finish(data, **ending)
