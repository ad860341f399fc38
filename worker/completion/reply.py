"""OpenAI's legacy completion objects. Pure: no thread, no publisher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tasks.contract import Job, JsonObject, Usage
from worker.chat.notices import NO_PROMISE, Promise
from worker.chat.toolcalls.deltas import Content
from worker.completion.echo import Echo, echoed_logprobs
from worker.completion.ranking import best
from worker.engine.api import FinishReason, StepOutput, TokenLogprob
from worker.generate.choice import Choice
from worker.generate.logprobs import LegacyLogprobs, Pieces, joined
from worker.generate.reply import Piece, TextReply


class CompletionReply(TextReply):
    """`echoes`: by prompt, what its choices begin with; empty = no echo. `scores`: by choice, or none.

    `made` choices a prompt come in; `keep` of them, the likeliest, are in the reply (all of them in a stream). With
    echoes and scores the prompts' own log probabilities are shown, in a reply that does not stream; `pieces_of` gives
    their tokens' bytes.
    """

    def __init__(
        self,
        job: Job,
        choices: Sequence[Choice],
        *,
        echoes: Sequence[Echo] = (),
        scores: Sequence[LegacyLogprobs] = (),
        promise: Promise = NO_PROMISE,
        made: int = 1,
        keep: int = 1,
        pieces_of: Pieces | None = None,
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
        self._pieces_of = pieces_of
        self._prompt_scores: dict[int, tuple[TokenLogprob, ...]] = {}

    def pieces(self, output: StepOutput) -> Iterable[Piece]:
        if output.prompt_logprobs:
            self._prompt_scores[output.index // self._made] = output.prompt_logprobs
        return super().pieces(output)

    def whole(self, usage: Usage) -> str:
        if self._keep < self._made:
            self._choices = best(self._choices, made=self._made, keep=self._keep)
        return super().whole(usage)

    def _opening(self, choice: Choice) -> Iterator[Piece]:
        if self._echoes:
            yield Piece(self._text_chunk(choice, self._echo(choice)))

    def _said(self, choice: Choice) -> str:
        return self._text_chunk(choice, _text(choice), self._logprobs(choice))

    def _ended(self, choice: Choice) -> str:
        logprobs = self._logprobs(choice) if choice.scores else None
        return self._text_chunk(choice, "", logprobs, choice.reason)

    def _complete(self, choice: Choice) -> JsonObject:
        logprobs = self._logprobs(choice)
        if logprobs is not None and self._echoes and self._pieces_of is not None:
            logprobs = joined(self._of_prompt(choice.index // self._made, self._pieces_of), logprobs)
        return _choice(choice, self._echo(choice) + _text(choice), logprobs, choice.reason)

    def _echo(self, choice: Choice) -> str:
        return self._echoes[choice.index // self._made].text if self._echoes else ""

    def _of_prompt(self, number: int, pieces_of: Pieces) -> JsonObject:
        return echoed_logprobs(self._echoes[number], self._prompt_scores.get(number, ()), pieces_of)

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
