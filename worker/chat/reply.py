"""OpenAI's chat completion objects, made from what the engine puts out. Pure: no thread, no publisher.

A stream is: a chunk that names the role, the text's pieces, a chunk with the finish reason and an empty delta, and
(always) a chunk with empty `choices` and the usage. Everything is ASCII-only JSON, so that no line separator of
Unicode can break a client's parsing of lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tasks.contract import Job, JsonObject, Notice, Usage
from worker.chat.notices import NO_PROMISE, Promise, notice
from worker.engine.api import FinishReason, StepOutput

_BEFORE = ',"choices":[{"index":0,"delta":{"content":'
_AFTER = '},"logprobs":null,"finish_reason":null}]}'


@dataclass(frozen=True, slots=True)
class Piece:
    """The data of one event, and the token ids whose text it delivers."""

    data: str = field(repr=False)
    tokens: tuple[int, ...] = field(default=(), repr=False)


class ChatReply:
    """The reply to one job. Not thread-safe: outputs come in one after the other.

    `pieces` turns one output of the engine into the chunks to send now (none unless the job streams); `whole` is the
    reply of a job that does not stream, once its last output was taken.
    """

    def __init__(self, job: Job, promise: Promise = NO_PROMISE) -> None:
        self._promise = promise
        self._stream = job.stream
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{job.job_id}",
            "object": "chat.completion.chunk" if job.stream else "chat.completion",
            "created": job.created,
            "model": job.model,
        }
        self._started = job.resume is not None  # what was delivered before began with the role
        self._resumed = bool(job.resume and job.resume.token_ids)  # and nothing came since
        self._pending: list[int] = []
        self._texts: list[str] = []
        self._before = _json(self._head)[:-1] + _BEFORE

    def pieces(self, output: StepOutput) -> Iterator[Piece]:
        """What this output adds to a stream. The last output (`finish_reason` set) must be a good end."""
        if not self._stream:
            self._texts.append(output.text)
            return
        if not self._started:
            yield self._opening()
        if output.tokens:
            self._pending += output.tokens
        if output.text:
            yield Piece(f"{self._before}{json.dumps(output.text)}{_AFTER}", self._take_pending())
        if output.finish_reason is not None:
            yield from self._ending(output.finish_reason, output.usage or Usage())

    def whole(self, reason: FinishReason, usage: Usage) -> str:
        """The complete reply of a job that does not stream. `reason` and `usage` as the engine gave them."""
        finish = self.finish_reason(reason)
        choice = {"index": 0, "message": self._message(), "logprobs": None, "finish_reason": finish}
        return _json({**self._head, "choices": [choice], "usage": self.usage(usage).openai()})

    def finish_reason(self, reason: FinishReason) -> FinishReason:
        """The engine's reason as the client gets it."""
        return reason

    def usage(self, usage: Usage) -> Usage:
        """The engine's count, and what only the reply's text tells."""
        return usage

    def notice(self, reason: FinishReason) -> Notice | None:
        """What the client should know about a reply that ended well, for `reason`."""
        return notice(reason, self._promise)

    def _message(self) -> JsonObject:
        return {"role": "assistant", "content": "".join(self._texts), "refusal": None}

    def _opening(self) -> Piece:
        self._started = True
        return Piece(self._delta({"role": "assistant", "content": ""}))

    def _ending(self, reason: FinishReason, usage: Usage) -> Iterator[Piece]:
        yield Piece(self._delta({}, self.finish_reason(reason)), self._take_pending())
        yield Piece(self._chunk([], usage=self.usage(usage).openai()))

    def _take_pending(self) -> tuple[int, ...]:
        """The tokens whose text is delivered now; they are handed out once."""
        pending = tuple(self._pending)
        self._pending.clear()
        return pending

    def _delta(self, delta: JsonObject, reason: FinishReason | None = None) -> str:
        return self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}])

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> str:
        return _json({**self._head, "choices": choices, **more})


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
