"""Which inputs of which requests the next batch takes. Pure.

Requests take turns, an input each, so that a short one is through with its first batch however long the others are.
An input that does not fit is first in the next batch, so nothing starves.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from worker.engine.embedder_api import EmbedOutput, EmbedRequest, Floats, Listener


class Pending:
    """A request on its way. `telling` is held while its listener is called."""

    __slots__ = ("_next", "_vectors", "at", "begun", "done", "listener", "queue_ms", "request", "telling", "total")

    def __init__(self, request: EmbedRequest, listener: Listener, *, width: int, at: float) -> None:
        self.request = request
        self.listener = listener
        self.at = at
        self.queue_ms = 0.0
        self.done = 0
        self.total = len(request.inputs)
        self._next = 0
        self.begun = False
        self.telling = threading.Lock()
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

    def tokens_left(self) -> int:
        """Of the inputs that were in no batch yet."""
        return sum(len(tokens) for tokens in self.request.inputs[self._next :])

    def begin(self, now: float) -> None:
        """A batch with it is about to run; the first one ends its waiting."""
        if not self.begun:
            self.begun = True
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
        self.most = tokens
        """Tokens of a batch of several inputs."""
        self._inputs = inputs
        self._waiting: deque[Pending] = deque()
        self._waiting_tokens = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting_tokens(self) -> int:
        """Of all inputs that were in no batch yet."""
        return self._waiting_tokens

    def add(self, pending: Pending) -> None:
        self._waiting.append(pending)
        self._waiting_tokens += pending.tokens_left()

    def drop(self, pending: Pending) -> None:
        """Its other inputs are not wanted any more. Any request may be given."""
        if pending in self._waiting:
            self._waiting.remove(pending)
            self._waiting_tokens -= pending.tokens_left()

    def next_batch(self, longest: int | None = None) -> list[Item]:
        """Inputs for one batch: as many as fit, or one that is longer than a batch. Empty when nothing waits.

        Inputs of more than `longest` tokens are left for others.
        """
        batch: list[Item] = []
        skipped: list[Pending] = []
        room = self.most
        while self._waiting and len(batch) < self._inputs:
            pending = self._waiting.popleft()
            item = pending.peek()
            if (batch and len(item.tokens) > room) or (longest is not None and len(item.tokens) > longest):
                skipped.append(pending)
                continue
            pending.advance()
            batch.append(item)
            room -= len(item.tokens)
            self._waiting_tokens -= len(item.tokens)
            if pending.more:
                self._waiting.append(pending)
        self._waiting.extendleft(reversed(skipped))
        return batch
