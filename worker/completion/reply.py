"""OpenAI's legacy completion objects. Pure: no thread, no publisher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.contract import Job, JsonObject, Usage
from worker.chat.notices import NO_PROMISE, Promise
from worker.chat.toolcalls.deltas import Content
from worker.completion.ranking import best
from worker.engine.api import FinishReason
from worker.generate.choice import Choice
from worker.generate.logprobs import LegacyLogprobs
from worker.generate.reply import Piece, TextReply


class CompletionReply(TextReply):
    """`echoes`: by choice, the prompt's text to begin with; empty = no echo. `scores`: likewise, or none.

    `made` choices a prompt come in; `keep` of them, the likeliest, are in the reply (all of them in a stream).
    """

    def __init__(
        self,
        job: Job,
        choices: Sequence[Choice],
        *,
        echoes: Sequence[str] = (),
        scores: Sequence[LegacyLogprobs] = (),
        promise: Promise = NO_PROMISE,
        made: int = 1,
        keep: int = 1,
    ) -> None:
        head: JsonObject = {
            "id": f"cmpl-{job.job_id}",
            "object": "text_completion",
            "created": job.created,
            "model": job.model,
        }
        super().__init__(job, choices, head, promise=promise)
        self._echoes = echoes
        self._scores = scores
        self._made, self._keep = made, keep

    def whole(self, usage: Usage) -> str:
        if self._keep < self._made:
            self._choices = best(self._choices, made=self._made, keep=self._keep)
        return super().whole(usage)

    def _opening(self, choice: Choice) -> Iterator[Piece]:
        if self._echoes:
            yield Piece(self._text_chunk(choice, self._echoes[choice.index]))

    def _said(self, choice: Choice) -> str:
        return self._text_chunk(choice, _text(choice), self._logprobs(choice))

    def _ended(self, choice: Choice) -> str:
        logprobs = self._logprobs(choice) if choice.scores else None
        return self._text_chunk(choice, "", logprobs, choice.reason)

    def _complete(self, choice: Choice) -> JsonObject:
        echo = self._echoes[choice.index] if self._echoes else ""
        return _choice(choice, echo + _text(choice), self._logprobs(choice), choice.reason)

    def _text_chunk(
        self, choice: Choice, text: str, logprobs: JsonObject | None = None, reason: FinishReason | None = None
    ) -> str:
        return self._chunk([_choice(choice, text, logprobs, reason)])

    def _logprobs(self, choice: Choice) -> JsonObject | None:
        return self._scores[choice.index].take(choice.take_scores()) if self._scores else None


def _choice(choice: Choice, text: str, logprobs: JsonObject | None, reason: FinishReason | None) -> JsonObject:
    return {"index": choice.index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def _text(choice: Choice) -> str:
    return "".join(part.text for part in choice.take_parts() if isinstance(part, Content))
