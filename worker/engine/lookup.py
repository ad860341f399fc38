"""Guesses what comes next from where the same last tokens stood before in the same text. Pure, one a sequence."""

from __future__ import annotations

_GRAM = 3
_SLOW = 0.1
"""Share of the newest observation in the acceptance rate: it follows some twenty tokens."""


class Lookup:
    """Follows a growing list of tokens. `rate` is how often its guess of one token has been right lately (0 to 1).

    Reading a list for the first time takes about 0.2 µs a token; after that each new token costs a few µs.
    """

    __slots__ = ("_after", "_read", "_said", "rate")

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._read = _GRAM
        self._said: tuple[int, int] | None = None
        self.rate = 0.5

    def guess(self, tokens: list[int], most: int) -> list[int]:
        """Up to `most` tokens that may follow; none when the last ones are new. Watches how good its guesses were."""
        self._check(tokens)
        self._learn(tokens)
        at = self._after.get(tuple(tokens[-_GRAM:]))
        if at is None:
            return []
        self._said = len(tokens), tokens[at]
        period = tokens[at : at + most]
        return (period * -(-most // len(period)))[:most]  # what repeats itself is guessed to go on so

    def note(self, accepted: int, drafted: int) -> None:
        """So many of a draft's tokens were right; the first wrong one ended it."""
        self._said = None
        for _ in range(accepted):
            self._observe(1.0)
        if accepted < drafted:
            self._observe(0.0)

    def _check(self, tokens: list[int]) -> None:
        """A guess that was not tried tells as much, for nothing."""
        said, self._said = self._said, None
        if said is not None and said[0] < len(tokens):
            self._observe(float(tokens[said[0]] == said[1]))

    def _observe(self, right: float) -> None:
        self.rate += _SLOW * (right - self.rate)

    def _learn(self, tokens: list[int]) -> None:
        """Note what followed each three tokens, the latest place wins; the last three have no follower yet."""
        start, end = self._read, len(tokens)
        if start >= end:
            return
        first = start - _GRAM
        grams = zip(tokens[first : end - 3], tokens[first + 1 : end - 2], tokens[first + 2 : end - 1], strict=True)
        self._after.update(zip(grams, range(start, end), strict=True))
        self._read = end
