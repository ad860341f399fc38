"""A reply's text as it arrives, read by generators: each `yield` waits for more. Pure.

Parsers written so cannot depend on where the text was cut: they only ever see characters, or the end.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import TypeVar

T = TypeVar("T")
Wait = Generator[None, None, T]
"""A parser that may have to wait for text, and then returns T."""

_BLANKS = re.compile(r"\s*")


class Text:
    """What was fed and not read yet. `over`: nothing will follow."""

    def __init__(self) -> None:
        self._buffer = ""
        self._at = 0
        self._mark: int | None = None
        self.over = False

    def add(self, text: str) -> None:
        keep = self._at if self._mark is None else self._mark
        self._buffer = self._buffer[keep:] + text
        self._at -= keep
        if self._mark is not None:
            self._mark = 0

    @property
    def rest(self) -> str:
        """What is here now and not read yet."""
        return self._buffer[self._at :]

    def skip(self, count: int) -> str:
        """Read `count` characters that are here."""
        start, self._at = self._at, self._at + count
        return self._buffer[start : self._at]

    def mark(self) -> None:
        """Remember this place, to come back to."""
        self._mark = self._at

    def forget(self) -> None:
        """There is no way back any more."""
        self._mark = None

    @property
    def marked(self) -> bool:
        return self._mark is not None

    def back(self) -> None:
        """To the mark, which is gone then."""
        if self._mark is not None:
            self._at, self._mark = self._mark, None

    def peek(self) -> Wait[str]:
        """The next character, unread; empty at the end."""
        while self._at == len(self._buffer) and not self.over:
            yield
        return self._buffer[self._at : self._at + 1]

    def literal(self, wanted: str) -> Wait[bool]:
        """Read exactly `wanted`, or nothing."""
        while True:
            here = self._buffer[self._at : self._at + len(wanted)]
            if here == wanted:
                self._at += len(wanted)
                return True
            if self.over or not wanted.startswith(here):
                return False
            yield

    def blanks(self) -> Wait[str]:
        """Read white space, as much as there is."""
        return (yield from self.run(_BLANKS))

    def run(self, pattern: re.Pattern[str]) -> Wait[str]:
        """Read characters as long as `pattern` (a repeated character class) goes on."""
        read = ""
        while True:
            match = pattern.match(self._buffer, self._at)
            read += self.skip(match.end() - self._at if match else 0)
            if self._at < len(self._buffer) or self.over:
                return read
            yield

    def until(self, ends: Sequence[str], *, most: int) -> Wait[str | None]:
        """Read up to the first of `ends`, which stays unread; None, and nothing read, when there is none within
        `most` characters."""
        window = most + max(map(len, ends))
        while True:
            rest = self._buffer[self._at : self._at + window]
            found = [at for end in ends if 0 <= (at := rest.find(end)) <= most]
            if self.over or len(rest) == window or (found and not _earlier_possible(rest, ends, min(found))):
                return self.skip(min(found)) if found else None
            yield


def _earlier_possible(rest: str, ends: Sequence[str], found: int) -> bool:
    """Whether one of `ends` may begin before `found`, cut off by the end of what is here."""
    return any(rest.endswith(end[:n]) and len(rest) - n < found for end in ends for n in range(1, len(end)))


def overlap(text: str, markers: Sequence[str]) -> int:
    """Length of the longest end of `text` that begins one of the markers."""
    longest = max((len(marker) for marker in markers), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(marker.startswith(text[-length:]) for marker in markers):
            return length
    return 0
