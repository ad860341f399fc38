"""When checking guessed tokens together with the next one pays, and how many of them. Pure.

A step with more tokens takes longer, how much longer depends on the machine: it is measured. A draft is made when the
tokens it is expected to save are worth more than that, and, where others decode as well, only when the step is known
to get hardly longer for it.
"""

from __future__ import annotations

from typing import Protocol

from worker.engine.lookup import Lookup
from worker.engine.sequence import Sequence

MOST_DRAFT = 8
_SIZES = (8, 4, 2)
_GAIN = 1.05  # by less it is not worth the trouble
_HARM = 1.1  # how much longer the others' step may take
_FRESH = 0.2  # share of the newest time in the average
_FORGET = 400  # steps after which a size that does not pay is tried once more


class Costs(Protocol):
    """How long steps take by their number of tokens."""

    def note(self, rows: int, seconds: float) -> None:
        """A step without prompt tokens took so long."""

    def ratio(self, rows: int, more: int) -> float | None:
        """How many times as long a step of `rows + more` tokens takes as one of `rows`; None = not known."""


class MeasuredCosts:
    """Moving averages; what was measured long ago for larger steps is forgotten, so that it is measured again."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._noted_at: dict[int, int] = {}
        self._steps = 0

    def note(self, rows: int, seconds: float) -> None:
        self._steps += 1
        known = self._seconds.get(rows)
        self._seconds[rows] = seconds if known is None else known + _FRESH * (seconds - known)
        self._noted_at[rows] = self._steps

    def ratio(self, rows: int, more: int) -> float | None:
        base, longer = self._known(rows), self._known(rows + more)
        return None if base is None or longer is None else longer / base

    def _known(self, rows: int) -> float | None:
        if self._steps - self._noted_at.get(rows, -_FORGET) >= _FORGET:
            return None
        return self._seconds[rows]


class Speculator:
    """Gives sequences their drafts; none unless `rewinds`: refused tokens must be forgotten again."""

    def __init__(self, costs: Costs, *, enabled: bool, rewinds: bool) -> None:
        self._costs = costs
        self._enabled = enabled and rewinds

    def draft(self, decode: list[Sequence], *, room: int) -> list[Sequence]:
        """Set `draft` where it pays; returns those sequences. `room`: tokens the step can carry in addition."""
        if not self._enabled or len(decode) > MOST_DRAFT:
            return []
        rows, drafted = len(decode), []
        for seq in decode:
            if not seq.request.speculate:
                continue
            draft = self._draft_of(seq, rows, room, alone=len(decode) == 1)
            if draft:
                seq.draft = draft
                drafted.append(seq)
                rows += len(draft)
                room -= len(draft)
        return drafted

    def note(self, seq: Sequence, accepted: int) -> None:
        """The first `accepted` tokens of the sequence's draft were right."""
        if seq.lookup is not None:
            seq.lookup.note(accepted, len(seq.draft))

    def _draft_of(self, seq: Sequence, rows: int, room: int, *, alone: bool) -> list[int]:
        if seq.lookup is None:
            seq.lookup = Lookup()
        most = min(MOST_DRAFT, room, seq.limit - len(seq.tokens) - 1)
        guess = seq.lookup.guess(seq.tokens, most) if most > 0 else []
        for size in _SIZES:
            if len(guess) >= size and self._pays(seq.lookup.rate, rows, size, alone=alone):
                return guess[:size]
        return []

    def _pays(self, rate: float, rows: int, size: int, *, alone: bool) -> bool:
        ratio = self._costs.ratio(rows, size)
        made = expected(rate, size)
        if ratio is None:  # to know, it must be tried once, when it harms nobody and is likely to be of use
            return alone and made > 1 + size / 2
        return made > _GAIN * ratio if alone else made > _GAIN and ratio <= _HARM


def expected(rate: float, size: int) -> float:
    """Tokens a step is expected to make with a draft of `size`, each right at `rate` when those before it were."""
    return sum(rate**n for n in range(size + 1))
