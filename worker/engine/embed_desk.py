"""The requests of an embedding engine, shared by the lanes that run them. Thread-safe.

A lane calls `take` for its next batch and `tell` when it has run. A request's outputs are told one after the other,
whichever lanes its inputs ran in, and nothing follows the last of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tasks.errors import BadRequestError, JobCancelledError, PendraError, UnavailableError
from tasks.logs import event, where
from worker.engine.attention_tile import TILE
from worker.engine.embed_batch import BatchQueue, Item, Pending
from worker.engine.embedder_api import EmbedOutput, Floats

_log = logging.getLogger("pendra.engine")
_QUIET_S = 0.25  # without two batches at once: threads that wait for each other do badly beside another lane's


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """What a lane is to do: end what was cancelled, then run the batch.

    `alone`: no other lane had work lately. `long`: it is an input that is longer than a batch, and may take minutes.
    """

    batch: list[Item]
    cancelled: list[Pending]
    alone: bool
    long: bool


class Desk:
    """`add`, `cancel`, `close` and `counts` never wait for a batch or a listener."""

    def __init__(self, queue: BatchQueue) -> None:
        self._changed = threading.Condition()
        self._queue = queue
        self._open: dict[str, Pending] = {}
        self._cancelled: list[Pending] = []
        self._working: list[Turn] = []
        self._crowded = float("-inf")
        self._closed = False

    def add(self, pending: Pending) -> None:
        """Raises UnavailableError (draining) once closed, BadRequestError for the id of an open request."""
        request_id = pending.request.request_id
        with self._changed:
            if self._closed:
                raise UnavailableError("this model is being unloaded; try again", code="draining")
            if request_id in self._open:
                raise BadRequestError(f"request {request_id} is running already")
            self._open[request_id] = pending
            self._queue.add(pending)
            self._changed.notify_all()

    def cancel(self, request_id: str) -> None:
        """Before the next batch a lane tells it. Any id may be given."""
        with self._changed:
            pending = self._open.get(request_id)
            if pending is not None:
                self._queue.drop(pending)
                self._cancelled.append(pending)
                self._changed.notify_all()

    def close(self) -> bool:
        """From now on `take` returns None. False: it is closed already."""
        with self._changed:
            was_open, self._closed = not self._closed, True
            self._changed.notify_all()
        return was_open

    def counts(self) -> tuple[int, int]:
        """Requests whose first batch has begun, and those that wait for it."""
        with self._changed:
            begun = sum(pending.begun for pending in self._open.values())
            return begun, len(self._open) - begun

    # ------------------------------------------------------------ lanes

    def take(self, longest: int, rest: Callable[[], None]) -> Turn | None:
        """The next turn for a lane whose inputs have at most `longest` tokens; waits for one. None: closed.

        `rest` is called before it has to wait.
        """
        rested = False
        while True:
            with self._changed:
                if self._closed:
                    return None
                turn = self._turn(longest)
                if turn is None and rested:
                    self._changed.wait()
            if turn is not None:
                return turn
            if not rested:
                rest()  # outside of the lock: it takes a while
                rested = True

    def _turn(self, longest: int) -> Turn | None:
        cancelled, self._cancelled = self._cancelled, []
        batch = [] if self._better_later() else self._queue.next_batch(longest)
        if not batch and not cancelled:
            return None
        now = time.monotonic()
        for item in batch:
            item.pending.begin(now)
        if self._working or len(self._queue):
            self._crowded = now
        long = any(len(item.tokens) > self._queue.most for item in batch)
        turn = Turn(batch, cancelled, alone=now - self._crowded > _QUIET_S, long=long)
        self._working.append(turn)
        return turn

    def _better_later(self) -> bool:
        """Whether what waits is so little that it should wait for more: until a batch is through, at the latest."""
        if self._queue.waiting_tokens >= min(TILE, self._queue.most):
            return False
        return any(not turn.long for turn in self._working)

    def done(self, turn: Turn) -> None:
        """The turn is over."""
        with self._changed:
            self._working.remove(turn)
            self._changed.notify_all()

    def store(self, batch: Sequence[Item], rows: Floats) -> None:
        """The vectors of these inputs."""
        with self._changed:
            for item, row in zip(batch, rows, strict=True):
                item.pending.store(item.index, row)

    def is_open(self, pending: Pending) -> bool:
        return self._open.get(pending.request.request_id) is pending

    def tell(self, requests: Iterable[Pending]) -> None:
        """Say how far these are; the whole of those that are through."""
        for pending in {id(one): one for one in requests}.values():
            with pending.telling:
                with self._changed:
                    output = pending.output() if self.is_open(pending) else None
                    if output is not None and output.last:
                        self._forget(pending)
                if output is not None:
                    _call(pending, output)

    def fail(self, pending: Pending, error: PendraError) -> None:
        """End a request with an error, unless it has ended."""
        with pending.telling:
            with self._changed:
                is_open = self.is_open(pending)
                if is_open:
                    self._queue.drop(pending)
                    self._forget(pending)
            if is_open:
                _call(pending, EmbedOutput(pending.request.request_id, pending.done, pending.total, error=error))

    def fail_cancelled(self, cancelled: Iterable[Pending]) -> None:
        for pending in cancelled:
            self.fail(pending, JobCancelledError("the request was cancelled"))

    def fail_all(self, error: PendraError) -> None:
        """What is open ends with this error."""
        with self._changed:
            left = list(self._open.values())
        for pending in left:
            self.fail(pending, error)

    def _forget(self, pending: Pending) -> None:
        del self._open[pending.request.request_id]


def _call(pending: Pending, output: EmbedOutput) -> None:
    try:
        pending.listener(output)
    except Exception as exc:  # noqa: BLE001  # a broken listener must not stop the other requests
        event(_log, logging.ERROR, "embedder.listener_failed", error=exc, where=where(exc))
