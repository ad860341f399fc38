"""What every family's parser does: pass content on, find where a call may begin, report the calls. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker.chat.toolcalls.deltas import CallArguments, CallIds, CallStart, Content, Delta
from worker.chat.toolcalls.text import Text, Wait, overlap

Block = Callable[["Reading"], Wait[bool]]
"""Reads one or more calls; False where the text stops being calls. What is read before `begin_call` is given back."""


class Reading:
    """One reply being read. `tools`: the offered tools' names, and the JSON schema of each one's arguments.

    `closed`: what would call any other tool is no call, whatever stands around it.
    """

    def __init__(self, tools: Mapping[str, Any], ids: CallIds, *, closed: bool = False) -> None:
        self.text = Text()
        self.tools = tools
        self.calls = 0
        self._closed = closed
        self._ids = ids
        self._out: list[Delta] = []

    def take(self) -> list[Delta]:
        """What came out since the last time, neighbours joined."""
        out, self._out = self._out, []
        joined: list[Delta] = []
        for delta in out:
            last = joined[-1] if joined else None
            if isinstance(delta, Content) and isinstance(last, Content):
                joined[-1] = Content(last.text + delta.text)
            elif isinstance(delta, CallArguments) and isinstance(last, CallArguments):
                joined[-1] = CallArguments(last.index, last.fragment + delta.fragment)
            else:
                joined.append(delta)
        return joined

    def content(self, text: str) -> None:
        if text:
            self._out.append(Content(text))

    def may_call(self, name: str, *, offered_only: bool = False) -> bool:
        """`offered_only`: here only an offered tool's name makes a call."""
        return name in self.tools or not (self._closed or offered_only)

    def begin_call(self, name: str, call_id: str | None = None) -> None:
        """From here on there is a call: no way back to content."""
        self.text.forget()
        index, self.calls = self.calls, self.calls + 1
        self._out.append(CallStart(index, call_id or self._ids(index), name))

    def arguments(self, fragment: str) -> None:
        if fragment:
            self._out.append(CallArguments(self.calls - 1, fragment))

    def content_until(self, markers: Sequence[str] = ()) -> Wait[bool]:
        """Pass content on up to one of the markers, which stays unread; False at the end of the text.

        Blanks before a marker are read, but not shown: they are shown when it turns out that no call follows. Blanks
        at the very end are dropped when there were calls.
        """
        text = self.text
        while True:
            rest = text.rest
            sure = len(rest) - overlap(rest, markers)
            at = min((at for marker in markers if (at := rest.find(marker)) >= 0), default=None)
            if at is not None and (at <= sure or text.over):
                self.content(text.skip(len(rest[:at].rstrip())))
                text.mark()
                yield from text.blanks()
                return True
            if text.over:
                self.content(rest.rstrip() if self.calls else rest)
                text.skip(len(rest))
                return False
            self.content(text.skip(len(rest[:sure].rstrip())))
            yield

    def attempt(self, block: Block) -> Wait[None]:
        """Read calls behind a marker. When not even one begins, what looked like it is content, and reading goes on
        behind its first character."""
        if not self.text.marked:
            self.text.mark()
        called = self.calls
        yield from block(self)
        if self.calls == called:
            self.text.back()
            blanks = yield from self.text.blanks()
            self.content(blanks + self.text.skip(min(1, len(self.text.rest))))
        self.text.forget()

    def again(self, block: Block) -> Wait[bool]:
        """Read a call where one may stand; when none begins, nothing is read."""
        if self.text.marked:  # the first one: `attempt` knows where to go back to
            return (yield from block(self))
        self.text.mark()
        called = self.calls
        complete = yield from block(self)
        if self.calls == called:
            self.text.back()
        self.text.forget()
        return complete
