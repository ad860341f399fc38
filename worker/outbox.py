"""Event batches on their way to Redis, in order, within a bound. Owned by the publisher thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice


@dataclass(frozen=True, slots=True)
class Batch:
    """One message for one bridge. `releases` are the (job id, attempt) whose terminal event is in it.

    `settle` is called once, when the message is out or given up.
    """

    bridge_id: str
    data: bytes = field(repr=False)
    releases: tuple[tuple[str, int], ...] = ()
    settle: tuple[Callable[[], None], ...] = ()


class Outbox:
    """First in, first out. Over `limit_bytes` the oldest batches are dropped: they are worth least, because by then
    the bridge has taken their jobs elsewhere."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._batches: deque[Batch] = deque()

    def __len__(self) -> int:
        return len(self._batches)

    def put(self, batch: Batch) -> list[Batch]:
        """Append; returns what had to be dropped for it (settled). The newest batch always stays."""
        self._batches.append(batch)
        self._size += len(batch.data)
        dropped: list[Batch] = []
        while self._size > self._limit and len(self._batches) > 1:
            dropped.append(self._take())
        return dropped

    def head(self, count: int) -> list[Batch]:
        return list(islice(self._batches, count))

    def pop(self, count: int) -> None:
        """The first `count` are out."""
        for _ in range(count):
            self._take()

    def clear(self) -> int:
        """Give everything up; returns how many batches that were."""
        count = len(self._batches)
        self.pop(count)
        return count

    def _take(self) -> Batch:
        batch = self._batches.popleft()
        self._size -= len(batch.data)
        for settle in batch.settle:
            settle()
        return batch
