"""Asks one question over the HTTP API and reads the streamed answer, as any client would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tasks.errors import PendraError

_SILENCE_S = 120.0  # the first request may wait for the model to load


class AnswerError(PendraError):
    """The API did not answer, or not with an answer."""

    default_code = "no_answer"


@dataclass(slots=True)
class Answer:
    """What a stream said besides its words."""

    words: str = field(default="", repr=False)
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)
    worker: dict[str, Any] = field(default_factory=dict)


def ask(url: str, key: str, body: dict[str, Any], show: Callable[[str], None]) -> Answer:
    """Stream a chat answer; `show` gets each piece of text as it comes. Blocks. Raises AnswerError."""
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with (
            httpx.Client(trust_env=False, timeout=httpx.Timeout(_SILENCE_S, connect=5.0)) as client,
            client.stream(
                "POST", f"{url}/v1/chat/completions", json=body | {"stream": True}, headers=headers
            ) as reply,
        ):
            if reply.is_error:
                reply.read()
                raise AnswerError(f"the API answered {reply.status_code}: {_detail(reply)}")
            return collect(payloads(reply.iter_lines()), show)
    except httpx.HTTPError as exc:
        raise AnswerError(f"the API did not answer: {type(exc).__name__}") from exc


def payloads(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The JSON payloads of an SSE stream up to `[DONE]`. Raises AnswerError when it ends before. Pure."""
    for line in lines:
        if not line.startswith("data:"):
            continue  # comments (keep-alives) and blank lines
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        yield json.loads(data)
    raise AnswerError("the stream ended before [DONE]")


def collect(chunks: Iterable[dict[str, Any]], show: Callable[[str], None]) -> Answer:
    """Puts a stream's chunks together. Raises AnswerError for an in-band error. Pure but for `show`."""
    answer = Answer()
    for chunk in chunks:
        if error := chunk.get("error"):
            raise AnswerError(f"the answer broke off: {error.get('message')}")
        for choice in chunk.get("choices") or ():
            text = (choice.get("delta") or {}).get("content") or ""
            if text:
                show(text)
            answer.words += text
            answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
        answer.usage = chunk.get("usage") or answer.usage
        ours = chunk.get("pendra") or {}
        answer.timing = ours.get("timing") or chunk.get("timing") or answer.timing
        answer.worker = ours.get("worker") or answer.worker
    return answer


def _detail(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"
