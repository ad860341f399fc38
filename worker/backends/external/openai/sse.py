"""Server-sent events, from bytes to the `data` of each event (WHATWG HTML §9.2). Pure.

Whatever is not a `data` line (comments, other fields, noise) is skipped, as the standard says.
"""

from __future__ import annotations

import re

MAX_EVENT_BYTES = 16 * 1024 * 1024
_LINE_END = re.compile(rb"\r\n|\n|\r(?!$)")  # a \r at the very end may be half of \r\n


class EventTooLargeError(ValueError):
    """More than MAX_EVENT_BYTES without an end: not an event stream."""


class SseParser:
    """Feed it pieces as they come, cut anywhere."""

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[str]:
        """The events that are complete now. Raises EventTooLargeError."""
        *lines, self._rest = _LINE_END.split(self._rest + piece)
        events = [event for line in lines if (event := self._line(line)) is not None]
        if self._size + len(self._rest) > self._limit:
            raise EventTooLargeError
        return events

    def close(self) -> list[str]:
        """The stream ended. An event without its blank line counts: some servers leave the last one out."""
        last = self.feed(b"\n\n") if self._rest or self._data else []
        self._rest = b""
        return last

    def _line(self, line: bytes) -> str | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
        return None

    def _dispatch(self) -> str | None:
        data, self._data, self._size = self._data, [], 0
        text = b"\n".join(data).decode("utf-8", "replace")
        return text if text.strip() else None
