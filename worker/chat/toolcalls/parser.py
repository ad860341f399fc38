"""One reply's tool calls, streamed: text in, deltas out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.chat.toolcalls.deltas import CallIds, Delta
from worker.chat.toolcalls.family import ToolFamily
from worker.chat.toolcalls.reading import Reading


class ToolCallParser:
    """`tools`: the offered tools' names, and the JSON schema of each one's arguments. `closed`: no other is called.

    Feed it content (and, for gpt-oss, CALL) text in any pieces; the deltas joined are the same for any.

    Malformed calls become content; nothing is lost. A call that breaks off inside its arguments, whose beginning was
    handed out already, keeps the arguments it has (not valid JSON, so no client runs it), and the rest is content.
    """

    def __init__(self, family: ToolFamily, tools: Mapping[str, Any], ids: CallIds, *, closed: bool = False) -> None:
        self._reading = Reading(tools, ids, closed=closed)
        self._run = family.read(self._reading)

    @property
    def calls(self) -> int:
        """How many calls have begun. With any, a reply that ended by itself has finish reason `tool_calls`."""
        return self._reading.calls

    def feed(self, text: str) -> list[Delta]:
        self._reading.text.add(text)
        return self._advance()

    def finish(self) -> list[Delta]:
        """No more text: what was held back."""
        self._reading.text.over = True
        return self._advance()

    def _advance(self) -> list[Delta]:
        next(self._run, None)
        return self._reading.take()
