"""One reply's text, parsed while it comes: the reasoning is split off, then the tool calls are found. Pure."""

from __future__ import annotations

from worker.chat.parts import Part, Reasoning
from worker.chat.reasoning import Channel, Splitter
from worker.chat.reasoning import Piece as Split
from worker.chat.toolcalls.deltas import Content
from worker.chat.toolcalls.parser import ToolCallParser


class OutputParser:
    """Feed it the reply's text in any pieces; the parts joined are the same for any.

    Its state hangs on the text alone: a new parser fed with what another one was fed goes on as that one would.
    Either half may be missing: without `tools`, calls are content; without `splitter`, there is no reasoning.
    """

    def __init__(self, splitter: Splitter | None, tools: ToolCallParser | None) -> None:
        self._splitter = splitter
        self._tools = tools

    @property
    def calls(self) -> int:
        """How many tool calls have begun."""
        return self._tools.calls if self._tools else 0

    @property
    def reasoning(self) -> bool:
        """The text so far ends inside the reasoning."""
        return self._splitter is not None and self._splitter.reasoning

    @property
    def reasoning_tokens(self) -> int:
        return self._splitter.reasoning_tokens if self._splitter else 0

    def feed(self, text: str, tokens: int = 0) -> list[Part]:
        """More text, and how many tokens it took. Returns what can be told apart now, in order."""
        if self._splitter is None:
            return self._said(text)
        return self._parts(self._splitter.feed(text, tokens))

    def finish(self) -> list[Part]:
        """No more text: what was held back."""
        parts = self._parts(self._splitter.finish()) if self._splitter else []
        return [*parts, *(self._tools.finish() if self._tools else ())]

    def _parts(self, pieces: list[Split]) -> list[Part]:
        parts: list[Part] = []
        for channel, text in pieces:
            parts += [Reasoning(text)] if channel is Channel.REASONING else self._said(text)
        return parts

    def _said(self, text: str) -> list[Part]:
        if self._tools is not None:
            return [*self._tools.feed(text)]
        return [Content(text)] if text else []
