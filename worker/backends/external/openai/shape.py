"""A server's OpenAI-shaped reply, made ours: our id and model name, both names of reasoning, usage always. Pure."""

from __future__ import annotations

import json
from typing import Any

from tasks.contract import Job, JobKind, JsonObject, Usage
from tasks.errors import PendraError
from worker.backends.external.faults import faulty, refused
from worker.backends.external.openai.usage import Stopwatch, estimated, read_usage, tokens_of
from worker.backends.external.product import Found

_REASONING = ("reasoning_content", "reasoning")  # vLLM changed from the one to the other; our clients get both
_TEXTS = ("content", "refusal", *_REASONING)
_ERROR_STATUSES = range(400, 600)
_ESTIMATED = {"usage": "estimated"}


class StreamShaper:
    """The chunks of one streamed chat or completion. `feed` each event's data, then `end`.

    The opening chunk, which only says the role, is held back until something follows it: until then nothing was
    said, and another server may still take over.
    """

    def __init__(self, found: Found, job: Job, watch: Stopwatch) -> None:
        self._found = found
        self._job = job
        self._watch = watch
        self._held: list[str] = []
        self._skip_opening = job.resume is not None
        self._said: Usage | None = None
        self._pieces = 0
        self._finished = False
        self.done = False
        """The server said that this was all."""

    def feed(self, data: str) -> list[str]:
        """What goes to the client now. Raises PendraError for an error in the stream, or what is no chunk."""
        if data.strip() == "[DONE]":
            self.done = True
            return []
        try:
            chunk = json.loads(data)
        except ValueError:
            raise faulty(self._found, "sent a piece of its reply that is not JSON") from None
        if not isinstance(chunk, dict):
            raise faulty(self._found, "sent a piece of its reply that is not a JSON object")
        if chunk.get("error"):
            raise _in_stream(self._found, chunk["error"])
        return self._chunk(chunk)

    def end(self) -> tuple[list[str], Usage]:
        """The last chunks, and the usage in them. Raises PendraError when the reply was cut off."""
        if not self._finished:
            raise faulty(self._found, "ended the stream in the middle of its reply")
        usage = self._said or estimated(self._job.body, self._pieces)
        block = {} if self._said else {"pendra": _ESTIMATED}
        last = self._dump({"choices": [], "usage": usage.openai(), **block})
        return [*self._release(), last], usage

    def _chunk(self, chunk: JsonObject) -> list[str]:
        usage, choices = read_usage(chunk.pop("usage", None)), chunk.get("choices")
        self._said = usage or self._said
        if not isinstance(choices, list) or not choices:
            return []
        told = [self._choice(choice) for choice in choices if isinstance(choice, dict)]
        text = self._dump(chunk)
        if any(told):
            self._watch.token()
            self._pieces += 1
        elif not self._finished:
            self._held.append(text)
            return []
        return [*self._release(), text]

    def _choice(self, choice: JsonObject) -> bool:
        """Normalise it in place; whether it tells the client something."""
        self._finished = self._finished or choice.get("finish_reason") is not None
        if self._job.kind is JobKind.COMPLETION:
            return bool(choice.get("text"))
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
        _both_reasonings(delta)
        return bool(delta.get("tool_calls")) or any(delta.get(name) for name in _TEXTS)

    def _release(self) -> list[str]:
        held, self._held = self._held, []
        return [] if self._skip_opening else held

    def _dump(self, chunk: JsonObject) -> str:
        kind = "text_completion" if self._job.kind is JobKind.COMPLETION else "chat.completion.chunk"
        return _dumps(head(self._job, kind) | _without_head(chunk))


def whole_chat(found: Found, job: Job, reply: Any) -> tuple[str, Usage]:
    """A chat or completion that came in one piece, and its usage. Raises PendraError when it is none."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices:
        raise faulty(found, "sent a reply without choices")
    for choice in choices:
        if isinstance(choice, dict) and isinstance(choice.get("message"), dict):
            _both_reasonings(choice["message"])
    said = read_usage(reply.pop("usage", None))
    usage = said or estimated(job.body, tokens_of("".join(map(_text_of, choices))))
    kind = "text_completion" if job.kind is JobKind.COMPLETION else "chat.completion"
    extra = {"usage": usage.openai()} | ({} if said else {"pendra": _ESTIMATED})
    return _dumps(head(job, kind) | _without_head(reply) | extra), usage


def whole_embeddings(found: Found, job: Job, reply: Any) -> tuple[str, Usage]:
    """An embeddings reply, and its usage. Raises PendraError when it is none."""
    rows = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "embedding" in row for row in rows):
        raise faulty(found, "sent a reply without embeddings")
    said = read_usage(reply.get("usage"))
    usage = said or estimated(job.body, 0)
    counts = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
    block = {} if said else {"pendra": _ESTIMATED}
    return _dumps({"object": "list", "model": job.model, "data": rows, "usage": counts, **block}), usage


def _in_stream(found: Found, error: Any) -> PendraError:
    """An error that came as an event of the stream; `code` is its HTTP status, if it is a number."""
    status = error.get("code") if isinstance(error, dict) else None
    if not isinstance(status, int) or status not in _ERROR_STATUSES:
        status = 500
    return refused(found, status, json.dumps({"error": error}).encode())


def head(job: Job, kind: str) -> JsonObject:
    prefix = "cmpl" if job.kind is JobKind.COMPLETION else "chatcmpl"
    return {"id": f"{prefix}-{job.job_id}", "object": kind, "created": job.created, "model": job.model}


def _both_reasonings(message: JsonObject) -> None:
    text = next((message[name] for name in _REASONING if isinstance(message.get(name), str)), None)
    for name in _REASONING:
        message.pop(name, None)
        if text is not None:
            message[name] = text


def _text_of(choice: Any) -> str:
    if not isinstance(choice, dict):
        return ""
    message = choice.get("message")
    parts = [message.get(name) for name in ("content", "reasoning")] if isinstance(message, dict) else []
    return "".join(part for part in [*parts, choice.get("text")] if isinstance(part, str))


def _without_head(chunk: JsonObject) -> JsonObject:
    return {name: value for name, value in chunk.items() if name not in ("id", "object", "created", "model")}


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
