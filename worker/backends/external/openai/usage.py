"""Token counts and timings of an external server's reply: its own where it sends them, else counted here. Pure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tasks.contract import JsonObject, Timing, Usage

_CHARS_PER_TOKEN = 4
"""OpenAI's own rule of thumb for English; used only where a server says nothing."""


def read_usage(said: Any) -> Usage | None:
    """A server's `usage` object, None when it is none (or all zero, which some send for "not counted")."""
    if not isinstance(said, dict):
        return None
    prompt, completion = _count(said.get("prompt_tokens")), _count(said.get("completion_tokens"))
    if not prompt and not completion:
        return None
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=_detail(said, "prompt_tokens_details", "cached_tokens"),
        reasoning_tokens=_detail(said, "completion_tokens_details", "reasoning_tokens"),
    )


def estimated(body: JsonObject, completion_tokens: int) -> Usage:
    """For a server that does not count: the prompt from its length, `completion_tokens` as counted from the reply."""
    asked = [body.get(name) for name in ("messages", "prompt", "input", "tools") if body.get(name)]
    chars = sum(map(_chars, asked))
    return Usage(prompt_tokens=-(-chars // _CHARS_PER_TOKEN), completion_tokens=completion_tokens)


def tokens_of(text: str) -> int:
    return -(-len(text) // _CHARS_PER_TOKEN)


class Stopwatch:
    """Times one request: made when it is sent, `token` at every piece of text."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._first: float | None = None
        self._last = self._began

    def token(self) -> None:
        self._last = self._clock()
        if self._first is None:
            self._first = self._last

    def timing(self, completion_tokens: int) -> Timing:
        """The rate counts from the first piece to the last, or over all when there was one piece."""
        first = self._first
        if first is None:
            return Timing()
        spread = self._last - first
        seconds, tokens = (
            (spread, completion_tokens - 1) if spread > 0 else (self._last - self._began, completion_tokens)
        )
        rate = round(tokens / seconds, 3) if seconds > 0 and tokens > 0 else None
        return Timing(ttft_ms=round(1000 * (first - self._began), 3), tokens_per_second=rate)

    def whole(self, completion_tokens: int) -> Timing:
        """Of a reply that came in one piece: only its rate is known."""
        seconds = self._clock() - self._began
        return Timing(tokens_per_second=round(completion_tokens / seconds, 3) if seconds > 0 else None)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _detail(said: dict[str, Any], group: str, name: str) -> int:
    details = said.get(group)
    return _count(details.get(name)) if isinstance(details, dict) else 0


def _chars(value: Any) -> int:
    """Characters of text in a part of a request; images and other data URLs do not count."""
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(value)
    if isinstance(value, list):
        return sum(map(_chars, value))
    if isinstance(value, dict):
        return sum(_chars(part) for name, part in value.items() if name not in ("role", "type"))
    return len(json.dumps(value)) if isinstance(value, int) else 0
