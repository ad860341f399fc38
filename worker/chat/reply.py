"""OpenAI's chat completion objects, made from what the engine puts out. Pure: no thread, no publisher."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from tasks.contract import Job, JsonObject
from worker.chat.notices import NO_PROMISE, Promise
from worker.chat.parts import as_delta, as_message
from worker.chat.toolcalls.deltas import Content
from worker.engine.api import FinishReason, StepOutput
from worker.generate.choice import Choice
from worker.generate.logprobs import Pieces, chat_logprobs
from worker.generate.reply import Piece, TextReply, as_json

_AFTER = '},"logprobs":null,"finish_reason":null}]}'


class ChatReply(TextReply):
    """A stream opens with a chunk a choice that names the role.

    `pieces_of`: the bytes of tokens, where log probabilities were asked for.
    """

    def __init__(
        self,
        job: Job,
        choices: Sequence[Choice] = (),
        *,
        promise: Promise = NO_PROMISE,
        pieces_of: Pieces | None = None,
    ) -> None:
        head: JsonObject = {
            "id": f"chatcmpl-{job.job_id}",
            "object": "chat.completion.chunk" if job.stream else "chat.completion",
            "created": job.created,
            "model": job.model,
        }
        choices = choices or [Choice(resumed=bool(job.resume and job.resume.token_ids))]
        super().__init__(job, choices, head, promise=promise)
        self._pieces_of = pieces_of
        before = as_json(head)[:-1]
        self._before = [f'{before},"choices":[{{"index":{c.index},"delta":{{"content":' for c in choices]

        self._quick = job.stream and len(choices) == 1 and choices[0].plain and pieces_of is None

    def pieces(self, output: StepOutput) -> Iterable[Piece]:
        """See `TextReply`. What nearly all outputs are takes a third of the time."""
        if self._quick and self._opened and output.finish_reason is None and output.text:
            (choice,) = self._choices
            tokens = (*choice.take_pending(), *output.tokens) if choice.pending else output.tokens
            return (Piece(f"{self._before[0]}{json.dumps(output.text)}{_AFTER}", tokens),)
        return super().pieces(output)

    def _opening(self, choice: Choice) -> Iterator[Piece]:
        yield Piece(self._delta(choice, {"role": "assistant", "content": ""}))

    def _said(self, choice: Choice) -> str:
        parts = choice.take_parts()
        if self._pieces_of is None and len(parts) == 1 and isinstance(parts[0], Content):
            return f"{self._before[choice.index]}{json.dumps(parts[0].text)}{_AFTER}"
        return self._delta(choice, as_delta(parts), scored=True)

    def _ended(self, choice: Choice) -> str:
        return self._delta(choice, {}, choice.reason, scored=bool(choice.scores))

    def _complete(self, choice: Choice) -> JsonObject:
        message = as_message(choice.take_parts())
        logprobs = self._logprobs(choice)
        return {"index": choice.index, "message": message, "logprobs": logprobs, "finish_reason": choice.reason}

    def _delta(
        self, choice: Choice, delta: JsonObject, reason: FinishReason | None = None, *, scored: bool = False
    ) -> str:
        logprobs = self._logprobs(choice) if scored else None
        return self._chunk([{"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}])

    def _logprobs(self, choice: Choice) -> JsonObject | None:
        return None if self._pieces_of is None else chat_logprobs(choice.take_scores(), self._pieces_of)
