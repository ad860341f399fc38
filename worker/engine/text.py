"""Tokens' bytes in, showable text out: whole characters only, and nothing of a stop string.

Pure and per sequence. The text is the same however the bytes were cut into tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

_new_decoder = codecs.getincrementaldecoder("utf-8")


class TextAssembler:
    """Joins token bytes into text that may be shown.

    Bytes that are not UTF-8 become U+FFFD; an unfinished character waits for its rest. Text from a stop string on is
    never shown: what could be the beginning of one is held back. When several stop strings occur, the one that is
    complete first ends the text (of those complete at once, the longest).
    """

    __slots__ = ("_decode", "_held", "_longest", "_prefixes", "_stops", "cut", "stopped")

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._prefixes = frozenset(stop[:n] for stop in self._stops for n in range(1, len(stop)))
        self._longest = max((len(stop) for stop in self._stops), default=1) - 1
        self._decode = _new_decoder("replace").decode
        self._held = ""
        self.stopped = False
        """A stop string was met; nothing more will be shown."""
        self.cut = 0
        """How many bytes of text were taken away because of that."""

    def push(self, piece: bytes) -> str:
        """Add one token's bytes; return the text that may be shown now, often none."""
        if not self._stops:
            return self._decode(piece)
        if self.stopped:
            return ""
        return self._release(self._held + self._decode(piece))

    def finish(self) -> str:
        """No more tokens: return what was held back. A cut-off character becomes U+FFFD."""
        if self.stopped:
            return ""
        text = self._held + self._decode(b"", True)  # noqa: FBT003  # codecs' own signature (final)
        self._held = ""
        end = self._first_stop(text) if self._stops else None
        return text if end is None else self._stop(text, end)

    def _release(self, text: str) -> str:
        end = self._first_stop(text)
        if end is not None:
            return self._stop(text, end)
        hold = self._could_start(text)
        cut = len(text) - hold
        self._held = text[cut:]
        return text[:cut]

    def _stop(self, text: str, end: int) -> str:
        self.stopped = True
        self.cut = len(text[end:].encode("utf-8", "replace"))
        self._held = ""
        return text[:end]

    def _first_stop(self, text: str) -> int | None:
        """Where the stop string that is complete first begins."""
        first: tuple[int, int] | None = None
        for stop in self._stops:
            at = text.find(stop)
            if at >= 0 and (first is None or (at + len(stop), at) < first):
                first = (at + len(stop), at)
        return None if first is None else first[1]

    def _could_start(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        prefixes = self._prefixes
        for length in range(min(self._longest, len(text)), 0, -1):
            if text[-length:] in prefixes:
                return length
        return 0
