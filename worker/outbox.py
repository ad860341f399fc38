"""Event batches on their way to Redis, in order, within a bound. Owned by the publisher thread.

What is out stays in a ring for a while: a Redis that dies may take with it what no bridge has read yet.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice

from tasks.scripts import Guard, Published
from worker.spill import Laid


@dataclass(frozen=True, slots=True)
class Batch:
    """One message for one bridge. `releases` are the (job id, attempt) whose terminal event is in it.

    `blobs` are large replies, written before it.

    `settle` is called once, when the message is out or given up. A `guard` is what a private job's message must meet;
    `refused` is called when it does not.
    """

    bridge_id: str
    data: bytes = field(repr=False)
    releases: tuple[tuple[str, int], ...] = ()
    settle: tuple[Callable[[], None], ...] = ()
    blobs: tuple[Laid, ...] = ()
    guard: Guard | None = None
    refused: Callable[[Published], None] = lambda _: None

    @property
    def size(self) -> int:
        return len(self.data) + sum(laid.size for laid in self.blobs)


KEEP_S = 10.0  # a bridge reads within milliseconds; it has seen everything older than this
KEEP_BYTES = 8 * 1024 * 1024


class Outbox:
    """First in, first out. Over `limit_bytes` the oldest batches are dropped: they are worth least, because by then
    the bridge has taken their jobs elsewhere."""

    def __init__(self, limit_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._batches: deque[Batch] = deque()
        self._clock = clock
        self._sent: deque[tuple[float, Batch]] = deque()
        self._sent_size = 0

    def __len__(self) -> int:
        return len(self._batches)

    def put(self, batch: Batch) -> list[Batch]:
        """Append; returns what had to be dropped for it (settled). The newest batch always stays."""
        self._batches.append(batch)
        self._size += batch.size
        dropped: list[Batch] = []
        while self._size > self._limit and len(self._batches) > 1:
            dropped.append(self._take())
        return dropped

    def head(self, count: int) -> list[Batch]:
        return list(islice(self._batches, count))

    def pop(self, count: int) -> None:
        """The first `count` are out."""
        now = self._clock()
        for _ in range(count):
            self._keep(replace(self._take(), releases=(), settle=()), now)

    def rewind(self) -> int:
        """What was sent lately waits again, before everything else; returns how many batches that were."""
        count = len(self._sent)
        self._batches.extendleft(batch for _, batch in reversed(self._sent))
        self._size += self._sent_size
        self._sent.clear()
        self._sent_size = 0
        return count

    def clear(self) -> int:
        """Give everything up; returns how many batches that were."""
        count = len(self._batches)
        for _ in range(count):
            self._take()
        return count

    def _keep(self, batch: Batch, now: float) -> None:
        self._sent.append((now, batch))
        self._sent_size += batch.size
        while self._sent and (self._sent_size > KEEP_BYTES or self._sent[0][0] < now - KEEP_S):
            self._sent_size -= self._sent.popleft()[1].size

    def _take(self) -> Batch:
        batch = self._batches.popleft()
        self._size -= batch.size
        for settle in batch.settle:
            settle()
        return batch
