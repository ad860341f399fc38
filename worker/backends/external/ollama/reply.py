"""What Ollama's `/api/chat` sends, line by line, as OpenAI's chat completion. Pure.

Thinking comes apart from the content; each tool call comes whole, with its arguments as an object, and models that
call several tools have been seen to give all of them index 0, so calls are counted here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tasks.contract import Job, JsonObject, Notice, Timing, Usage
from worker.backends.external.faults import faulty, message_of
from worker.backends.external.openai.shape import head
from worker.backends.external.openai.usage import Stopwatch, estimated
from worker.backends.external.product import Found
from worker.chat.notices import Promise, notice
from worker.chat.parts import Part, Reasoning, as_delta, as_message
from worker.chat.toolcalls.deltas import CallArguments, CallStart, Content, call_ids
from worker.engine.api import FinishReason

_MS = 1e6  # Ollama counts in nanoseconds
_ESTIMATED = {"pendra": {"usage": "estimated"}}


class ChatShaper:
    """One reply. `feed` every line's object; then, once `done`, `ending` (of a stream) or `whole`.

    `wants_json`: the reply was asked to be one JSON value.
    """

    def __init__(self, found: Found, job: Job, watch: Stopwatch, *, wants_json: bool = False) -> None:
        self._found = found
        self._job = job
        self._watch = watch
        self._promise = Promise(json=wants_json)
        self._parts: list[Part] = []
        self._logprobs: list[JsonObject] = []
        self._pieces = 0
        self._calls = 0
        self._opened = job.resume is not None
        self._only_one = job.body.get("parallel_tool_calls") is False
        self._ids = call_ids(job.job_id)
        self._last: JsonObject = {}
        self._kind = "chat.completion.chunk" if job.stream else "chat.completion"

    @property
    def done(self) -> bool:
        return bool(self._last)

    def feed(self, line: JsonObject) -> list[str]:
        """The chunks to send now (none unless the job streams). Raises PendraError for an error in the stream."""
        if "error" in line:
            words = message_of(json.dumps(line).encode())
            raise faulty(self._found, f"failed in the middle of its reply: {words or 'it does not say why'}")
        parts = self._read(line.get("message"))
        logprobs = [_logprob(one) for one in line.get("logprobs") or () if isinstance(one, dict)]
        if line.get("done"):
            self._last = line
        if not parts and not logprobs:
            return []
        self._watch.token()
        self._pieces += 1
        self._parts += parts
        self._logprobs += logprobs
        return self._chunks(parts, logprobs) if self._job.stream else []

    def ending(self) -> list[str]:
        """The last chunks of a stream: why it ended, and the usage."""
        usage, counted = self._usage()
        last: JsonObject = {"choices": [], "usage": usage.openai()}
        return [
            *self._opening(),
            self._choice({}, reason=self.finish_reason),
            self._dump(last if counted else last | _ESTIMATED),
        ]

    def whole(self) -> str:
        """The reply of a job that does not stream."""
        usage, counted = self._usage()
        choice = {
            "index": 0,
            "message": as_message(self._parts),
            "logprobs": {"content": self._logprobs} if self._logprobs else None,
            "finish_reason": self.finish_reason,
        }
        made: JsonObject = {"choices": [choice], "usage": usage.openai()}
        return self._dump(made if counted else made | _ESTIMATED)

    @property
    def finish_reason(self) -> str:
        if self._last.get("done_reason") == "length":
            return "length"
        return "tool_calls" if self._calls else "stop"

    @property
    def usage(self) -> Usage:
        return self._usage()[0]

    @property
    def timing(self) -> Timing:
        """The rate and the load from Ollama's own counters, the first token as it was seen here."""
        made = self._watch.timing(self.usage.completion_tokens)
        load, spent, count = (
            _number(self._last.get(name)) for name in ("load_duration", "eval_duration", "eval_count")
        )
        rate = round(count / (spent / 1e9), 3) if count and spent else made.tokens_per_second
        return made.model_copy(
            update={"tokens_per_second": rate, "model_load_ms": round(load / _MS, 3) if load else None}
        )

    @property
    def notice(self) -> Notice | None:
        thinking = bool(self._parts) and all(isinstance(part, Reasoning) for part in self._parts)
        return notice(FinishReason(self.finish_reason), self._promise, reasoning=thinking)

    def _read(self, message: Any) -> list[Part]:
        if not isinstance(message, dict):
            return []
        parts: list[Part] = []
        if message.get("thinking"):
            parts.append(Reasoning(str(message["thinking"])))
        if message.get("content"):
            parts.append(Content(str(message["content"])))
        for call in message.get("tool_calls") or ():
            parts += self._call(call)
        return parts

    def _call(self, call: Any) -> Sequence[Part]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or (self._only_one and self._calls):
            return ()
        index = self._calls
        self._calls += 1
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, separators=(",", ":"))
        start = CallStart(index, str(call.get("id") or self._ids(index)), str(function.get("name", "")))
        return start, CallArguments(index, text)

    def _usage(self) -> tuple[Usage, bool]:
        """The token counts, and whether all of them are Ollama's own.

        A prompt that was in the cache as a whole has no `prompt_eval_count` in some versions. How much of a reply was
        thinking is not counted by Ollama: its share of the text stands for it.
        """
        prompt, made = (_number(self._last.get(name)) for name in ("prompt_eval_count", "eval_count"))
        guess = estimated(self._job.body, self._pieces)
        completion = int(made) or guess.completion_tokens
        usage = Usage(
            prompt_tokens=int(prompt) or guess.prompt_tokens,
            completion_tokens=completion,
            reasoning_tokens=_share(self._parts, completion),
        )
        return usage, bool(prompt and made)

    def _chunks(self, parts: list[Part], logprobs: list[JsonObject]) -> list[str]:
        return [*self._opening(), self._choice(as_delta(parts), logprobs)]

    def _opening(self) -> list[str]:
        if self._opened:
            return []
        self._opened = True
        return [self._choice({"role": "assistant", "content": ""})]

    def _choice(self, delta: JsonObject, logprobs: list[JsonObject] | None = None, reason: str | None = None) -> str:
        shown = {"content": logprobs} if logprobs else None
        return self._dump({"choices": [{"index": 0, "delta": delta, "logprobs": shown, "finish_reason": reason}]})

    def _dump(self, more: JsonObject) -> str:
        return json.dumps(head(self._job, self._kind) | more, separators=(",", ":"))


def _share(parts: Sequence[Part], tokens: int) -> int:
    thought = sum(len(part.text) for part in parts if isinstance(part, Reasoning))
    if not thought:
        return 0
    said = sum(len(part.text) for part in parts if isinstance(part, Content))
    called = sum(len(part.fragment) for part in parts if isinstance(part, CallArguments))
    return max(1, round(tokens * thought / (thought + said + called)))


def _logprob(entry: JsonObject) -> JsonObject:
    """Ollama leaves out what is empty; OpenAI's clients want every field."""
    return {**_token(entry), "top_logprobs": [_token(one) for one in entry.get("top_logprobs") or ()]}


def _token(entry: JsonObject) -> JsonObject:
    return {"token": entry.get("token", ""), "logprob": entry.get("logprob", 0.0), "bytes": entry.get("bytes")}


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0
