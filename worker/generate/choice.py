"""One choice of a reply on its way out: what it says, and which tokens that took. Pure."""

from __future__ import annotations

from worker.chat.output import OutputParser
from worker.chat.parts import Part
from worker.chat.toolcalls.deltas import Content
from worker.engine.api import FinishReason, StepOutput, TokenLogprob


class Choice:
    """`parts`, `scores` and `pending` (tokens) gather until somebody takes them.

    Without a `parser` all text is content. A resumed choice needs a parser that was fed with what was delivered;
    `told`: an earlier attempt also delivered its end.
    """

    __slots__ = ("_parser", "_resumed", "index", "parts", "pending", "reason", "scores", "told")

    def __init__(
        self, index: int = 0, parser: OutputParser | None = None, *, resumed: bool = False, told: bool = False
    ) -> None:
        self.index = index
        self.parts: list[Part] = []
        self.scores: list[TokenLogprob] = []
        self.pending: list[int] = []
        self.reason: FinishReason | None = None
        self.told = told
        self._parser = parser
        self._resumed = resumed  # and nothing came since

    @property
    def plain(self) -> bool:
        """All its text is content."""
        return self._parser is None

    @property
    def reasoning(self) -> bool:
        """It ends inside its reasoning, so far."""
        return self._parser is not None and self._parser.reasoning

    @property
    def reasoning_tokens(self) -> int:
        return self._parser.reasoning_tokens if self._parser else 0

    def take(self, output: StepOutput) -> None:
        """The engine's next output for this choice. The last one must be a good end."""
        self.pending += output.tokens
        self.scores += output.logprobs
        if self._parser is not None:
            self._parse(self._parser, output)
        elif output.text:
            self.parts.append(Content(output.text))
        if output.finish_reason is not None:
            self.reason = self._end(output.finish_reason)
        self._resumed = False

    def take_parts(self) -> list[Part]:
        parts, self.parts = self.parts, []
        return parts

    def take_scores(self) -> list[TokenLogprob]:
        scores, self.scores = self.scores, []
        return scores

    def take_pending(self) -> tuple[int, ...]:
        """The tokens whose text is delivered now; they are handed out once."""
        pending = tuple(self.pending)
        self.pending.clear()
        return pending

    def _parse(self, parser: OutputParser, output: StepOutput) -> None:
        self.parts += parser.feed(output.text, len(output.tokens))
        if output.finish_reason is not None and (output.tokens or not self._resumed):
            self.parts += parser.finish()  # else an earlier attempt got to the end, and delivered this

    def _end(self, reason: FinishReason) -> FinishReason:
        """As the client gets it."""
        called = reason is FinishReason.STOP and self._parser is not None and self._parser.calls
        return FinishReason.TOOL_CALLS if called else reason
