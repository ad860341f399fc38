"""What the API has not acknowledged yet of one job: what is still to be sent, and what a reconnect may ask for again.

Bounded: over the limit the oldest items go, as long as they were sent. What was never sent is not dropped; the outbox
is `overfull` then, and its job has to end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

LIMIT_CHARS = 1024 * 1024


# One item: its seq, a text, and whether the text is one event of a chunk frame (else it is a whole frame). A plain
# tuple, because the garbage collector leaves those alone: with an object for every token of a thousand streams its
# pauses were the p99 of the added latency.
Sent = tuple[int, str, bool]


class Outbox:
    """Frames of one job in seq order. `unsent`: how many of them, at the end, the link has not been given yet."""

    __slots__ = ("_dropped", "_items", "_limit", "chars", "unsent")

    def __init__(self, limit: int = LIMIT_CHARS, *, begins: int = 0) -> None:
        """`begins`: the first seq it will hold; those before count as dropped."""
        self._items: deque[Sent] = deque()
        self._dropped = begins - 1
        self._limit = limit
        self.chars = 0
        self.unsent = 0

    @classmethod
    def restored(cls, items: Sequence[Sent], next_seq: int) -> Outbox:
        """One that holds what another one held when the job's next seq was this."""
        made = cls(begins=items[0][0] if items else next_seq)
        for item in items:
            made.add(item)
        return made

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Sent]:
        return iter(self._items)

    @property
    def overfull(self) -> bool:
        """Whether the limit is passed although nothing can be dropped."""
        return self.chars > self._limit and self.unsent == len(self._items) > 1

    @property
    def next_unsent(self) -> int:
        """The seq of the first item the link has not been given. Only while there is one."""
        return self._items[-self.unsent][0]

    def add(self, item: Sent, *, sent: bool = True) -> None:
        """`sent`: the link gets it at once."""
        self._items.append(item)
        self.chars += len(item[1])
        if not sent:
            self.unsent += 1
        while self.chars > self._limit and len(self._items) > max(self.unsent, 1):
            self._dropped = self._pop()

    def take(self, chars: int) -> list[Sent]:
        """The next items to send, about this many characters of them but at least one; they count as sent."""
        taken: list[Sent] = []
        size = 0
        for item in islice(self._items, len(self._items) - self.unsent, None):
            if taken and size + len(item[1]) > chars:
                break
            taken.append(item)
            size += len(item[1])
        self.unsent -= len(taken)
        return taken

    def rewind(self, seq: int) -> bool:
        """Everything later than `seq` is to be sent (again). False when some of that was dropped."""
        if seq < self._dropped:
            return False
        self.unsent = sum(item[0] > seq for item in self._items)
        return True

    def ack(self, seq: int) -> None:
        """The API has everything up to and including `seq`."""
        while len(self._items) > self.unsent and self._items[0][0] <= seq:
            self._pop()

    def _pop(self) -> int:
        item = self._items.popleft()
        self.chars -= len(item[1])
        return item[0]
