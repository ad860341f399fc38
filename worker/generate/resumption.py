"""Which tokens of which choice were delivered, as one list of numbers that the bridge keeps and hands back. Pure.

A reply of one choice has its token ids, as they are. With several, a number is the choice's index in the upper bits
and the token id in the lower 32; all ones in those: the choice's end was told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

_BITS = 32
END = (1 << _BITS) - 1
"""In place of a token id; no vocabulary reaches so far."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """By choice; `ended` are the choices whose finish reason was sent."""

    tokens: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    ended: frozenset[int] = frozenset()

    def of(self, index: int) -> tuple[int, ...]:
        return self.tokens[index] if index < len(self.tokens) else ()


def pack(index: int, tokens: Iterable[int]) -> tuple[int, ...]:
    """What to note for the bridge."""
    high = index << _BITS
    return tuple(high | token for token in tokens)


def unpack(numbers: Iterable[int], count: int) -> Delivered:
    """What was noted, of `count` choices. Choices beyond them are left out."""
    tokens: list[list[int]] = [[] for _ in range(count)]
    ended = set()
    for number in numbers:
        index, token = number >> _BITS, number & END
        if index >= count:
            continue
        if token == END:
            ended.add(index)
        else:
            tokens[index].append(token)
    return Delivered(tuple(tuple(one) for one in tokens), frozenset(ended))
