"""A chat completion whose text is parsed for reasoning and tool calls on its way out. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.contract import Job, JsonObject, Notice, Usage
from worker.chat.notices import NO_PROMISE, Promise, notice
from worker.chat.output import OutputParser
from worker.chat.parts import Part, as_delta, as_message
from worker.chat.reply import ChatReply, Piece
from worker.engine.api import FinishReason, StepOutput


class ParsedReply(ChatReply):
    """As `ChatReply`. Tokens whose text the parser holds back travel with the next chunk.

    One output of the engine makes at most one delta, so that its tokens and all it shows are delivered together. A
    resumed reply needs a parser that was fed with what was delivered.
    """

    def __init__(self, job: Job, parser: OutputParser, promise: Promise = NO_PROMISE) -> None:
        super().__init__(job, promise)
        self._parser = parser
        self._parts: list[Part] = []

    def pieces(self, output: StepOutput) -> Iterator[Piece]:
        parts = self._parser.feed(output.text, len(output.tokens))
        if output.finish_reason is not None and (output.tokens or not self._resumed):
            parts += self._parser.finish()  # else an earlier attempt got to the end, and delivered this
        self._resumed = False
        if not self._stream:
            self._parts += parts
            return
        if not self._started:
            yield self._opening()
        self._pending += output.tokens
        if parts:
            yield Piece(self._delta(as_delta(parts)), self._take_pending())
        if output.finish_reason is not None:
            yield from self._ending(output.finish_reason, output.usage or Usage())

    def finish_reason(self, reason: FinishReason) -> FinishReason:
        return FinishReason.TOOL_CALLS if reason is FinishReason.STOP and self._parser.calls else reason

    def usage(self, usage: Usage) -> Usage:
        return usage.model_copy(update={"reasoning_tokens": self._parser.reasoning_tokens})

    def notice(self, reason: FinishReason) -> Notice | None:
        return notice(reason, self._promise, reasoning=self._parser.reasoning)

    def _message(self) -> JsonObject:
        return as_message(self._parts)
