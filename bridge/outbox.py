"""What the API has not acknowledged yet of one job: kept for the replay after a reconnect, bounded."""

from __future__ import annotations

from collections import deque

LIMIT_CHARS = 512 * 1024


# One item: its seq, a text, and whether the text is one event of a chunk frame (else it is a whole frame). A plain
# tuple, because the garbage collector leaves those alone: with an object for every token of a thousand streams its
# pauses were the p99 of the added latency.
Sent = tuple[int, str, bool]


class Outbox:
    """Frames of one job in seq order. Over the limit the oldest go; `after` then says that they are missing."""

    __slots__ = ("_dropped", "_items", "_limit", "chars")

    def __init__(self, limit: int = LIMIT_CHARS, *, begins: int = 0) -> None:
        """`begins`: the first seq it will hold; those before count as dropped."""
        self._items: deque[Sent] = deque()
        self._dropped = begins - 1
        self._limit = limit
        self.chars = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Sent) -> None:
        self._items.append(item)
        self.chars += len(item[1])
        while self.chars > self._limit and len(self._items) > 1:
            self._dropped = self._pop()

    def ack(self, seq: int) -> None:
        """The API has everything up to and including `seq`."""
        while self._items and self._items[0][0] <= seq:
            self._pop()

    def after(self, seq: int) -> list[Sent] | None:
        """Everything later than `seq`, or None when some of that was dropped."""
        if seq < self._dropped:
            return None
        return [item for item in self._items if item[0] > seq]

    def _pop(self) -> int:
        item = self._items.popleft()
        self.chars -= len(item[1])
        return item[0]
