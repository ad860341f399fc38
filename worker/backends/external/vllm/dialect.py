"""Our chat requests as vLLM reads them. Pure (vllm/entrypoints/openai/chat_completion/protocol.py)."""

from __future__ import annotations

from tasks.contract import JsonObject

_RENAMED = {"repeat_penalty": "repetition_penalty"}


def to_vllm(body: JsonObject) -> JsonObject:
    """`body` is ours to change. `enable_thinking` goes to the chat template, which is where vLLM looks for it."""
    for ours, theirs in _RENAMED.items():
        if (value := body.pop(ours, None)) is not None:
            body.setdefault(theirs, value)
    thinking = body.pop("enable_thinking", None)
    if isinstance(thinking, bool):
        given = body.get("chat_template_kwargs")
        body["chat_template_kwargs"] = {"enable_thinking": thinking, **(given if isinstance(given, dict) else {})}
    return body
