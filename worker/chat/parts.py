"""What a reply is made of once it is parsed, and OpenAI's two shapes of it: a stream's delta, a whole message. Pure.

Reasoning has two names, `reasoning_content` (DeepSeek's, llama-server's) and `reasoning` (vLLM's, OpenRouter's), with
the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.contract import JsonObject
from worker.chat.toolcalls.deltas import CallArguments, CallStart, Content, Delta, assembled


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What the model thinks before it answers."""

    text: str = field(repr=False)


Part = Reasoning | Delta


def as_delta(parts: Sequence[Part]) -> JsonObject:
    """All parts in one delta: what one step of the engine made leaves, and is lost, as one."""
    delta = _reasoned(parts)
    content = "".join(part.text for part in parts if isinstance(part, Content))
    if content:
        delta["content"] = content
    calls = _call_deltas(parts)
    if calls:
        delta["tool_calls"] = calls
    return delta


def as_message(parts: Sequence[Part]) -> JsonObject:
    """The assistant's message. Its content is null when it only calls tools."""
    content, calls = assembled([part for part in parts if not isinstance(part, Reasoning)])
    message: JsonObject = {"role": "assistant", "content": content or (None if calls else ""), "refusal": None}
    message.update(_reasoned(parts))
    if calls:
        message["tool_calls"] = calls
    return message


def _reasoned(parts: Sequence[Part]) -> JsonObject:
    text = "".join(part.text for part in parts if isinstance(part, Reasoning))
    return {"reasoning_content": text, "reasoning": text} if text else {}


def _call_deltas(parts: Sequence[Part]) -> list[JsonObject]:
    """One entry a call, as clients add them up by `index`."""
    calls: dict[int, JsonObject] = {}
    for part in parts:
        if isinstance(part, CallStart):
            calls[part.index] = part.openai()
        elif isinstance(part, CallArguments) and part.index in calls:
            calls[part.index]["function"]["arguments"] += part.fragment
        elif isinstance(part, CallArguments):
            calls[part.index] = part.openai()
    return list(calls.values())
