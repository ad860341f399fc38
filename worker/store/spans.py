"""Which bytes of a file are there. Pure.

A file comes in one span, or in several at once; each grows from its start, so what is there is known after a crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end` (exclusive; None = to wherever it ends), of which the first `have` are there."""

    start: int
    end: int | None
    have: int = 0

    @property
    def at(self) -> int:
        """Where the next byte belongs."""
        return self.start + self.have

    @property
    def whole(self) -> bool:
        return self.end is not None and self.at >= self.end


def plan(size: int | None, connections: int, least: int) -> tuple[Span, ...]:
    """Cut a file for up to `connections` at once, no piece under `least`. One span when the size is not known."""
    if size is None:
        return (Span(0, None),)
    count = max(1, min(connections, size // max(least, 1)))
    edges = [size * number // count for number in range(count + 1)]
    return tuple(Span(start, end) for start, end in pairwise(edges))


def total(spans: tuple[Span, ...]) -> int:
    """Bytes that are there."""
    return sum(span.have for span in spans)


def front(spans: tuple[Span, ...]) -> int:
    """Bytes from the start of the file without a hole."""
    reached = 0
    for span in spans:
        if span.start != reached:
            break
        reached = span.at
        if not span.whole:
            break
    return reached
