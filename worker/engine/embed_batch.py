"""Which inputs of which requests the next batch takes. Pure.

Requests take turns, an input each, so that a short one is through with its first batch however long the others are.
An input that does not fit is first in the next batch, so nothing starves.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from worker.engine.embedder_api import EmbedOutput, EmbedRequest, Floats, Listener


class Pending:
    """A request on its way. Only the engine thread touches it."""

    __slots__ = ("_begun", "_next", "_vectors", "at", "done", "listener", "queue_ms", "request", "total")

    def __init__(self, request: EmbedRequest, listener: Listener, *, width: int, at: float) -> None:
        self.request = request
        self.listener = listener
        self.at = at
        self.queue_ms = 0.0
        self.done = 0
        self.total = len(request.inputs)
        self._next = 0
        self._begun = False
        self._vectors: Floats = np.empty((self.total, width), dtype=np.float32)

    @property
    def more(self) -> bool:
        """Whether it has inputs that were in no batch yet."""
        return self._next < self.total

    def peek(self) -> Item:
        """Its next input."""
        return Item(self, self._next, self.request.inputs[self._next])

    def advance(self) -> None:
        self._next += 1

    def begin(self, now: float) -> None:
        """A batch with it is about to run; the first one ends its waiting."""
        if not self._begun:
            self._begun = True
            self.queue_ms = 1000 * (now - self.at)

    def store(self, index: int, row: Floats) -> None:
        self._vectors[index] = row
        self.done += 1

    def output(self) -> EmbedOutput:
        vectors = self._vectors if self.done == self.total else None
        return EmbedOutput(self.request.request_id, self.done, self.total, vectors, queue_ms=self.queue_ms)


@dataclass(frozen=True, slots=True)
class Item:
    """One input of a request."""

    pending: Pending
    index: int
    tokens: tuple[int, ...] = field(repr=False)


class BatchQueue:
    """Requests that still have inputs to run."""

    def __init__(self, *, tokens: int, inputs: int) -> None:
        self._tokens = tokens
        self._inputs = inputs
        self._waiting: deque[Pending] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, pending: Pending) -> None:
        self._waiting.append(pending)

    def drop(self, pending: Pending) -> None:
        """Its other inputs are not wanted any more. Any request may be given."""
        if pending in self._waiting:
            self._waiting.remove(pending)

    def next_batch(self) -> list[Item]:
        """Inputs for one batch: as many as fit, or one that is longer than a batch. Empty when nothing waits."""
        batch: list[Item] = []
        skipped: list[Pending] = []
        room = self._tokens
        while self._waiting and len(batch) < self._inputs:
            pending = self._waiting.popleft()
            item = pending.peek()
            if batch and len(item.tokens) > room:
                skipped.append(pending)
                continue
            pending.advance()
            batch.append(item)
            room -= len(item.tokens)
            if pending.more:
                self._waiting.append(pending)
        self._waiting.extendleft(reversed(skipped))
        return batch
