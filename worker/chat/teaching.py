"""For models whose chat template knows no tools: what the tools are and how to call them, told in the messages. Pure.

As llama.cpp does it. Calls and results of earlier turns, which such a template would drop, become text as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tasks.contract import JsonObject
from worker.chat.toolcalls.family import ToolFamily

_EXAMPLE = "some_tool"


def taught(messages: Sequence[JsonObject], tools: Sequence[JsonObject], family: ToolFamily) -> tuple[JsonObject, ...]:
    """The messages as the template can show them; with `tools`, beginning with what they are."""
    told = [_in_words(message, family) for message in messages]
    if not tools:
        return tuple(told)
    words = _lesson(tools, family)
    if told and told[0].get("role") in ("system", "developer"):
        first = {**told[0], "content": f"{told[0].get('content') or ''}\n\n{words}".strip()}
        return (first, *told[1:])
    return ({"role": "system", "content": words}, *told)


def _lesson(tools: Sequence[JsonObject], family: ToolFamily) -> str:
    listed = "\n".join(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools)
    example = _call(_EXAMPLE, '{"some_argument": "some value"}', family)
    return (
        f"You can call these tools:\n{listed}\n\nTo call one, answer with nothing but the call, like this:\n{example}"
    )


def _call(name: str, arguments: str, family: ToolFamily) -> str:
    syntax = family.syntax
    return f"{syntax.opening}{syntax.before}{name}{syntax.middle}{arguments}{syntax.after}{syntax.closing}"


def _in_words(message: JsonObject, family: ToolFamily) -> JsonObject:
    if message.get("role") == "tool":
        return {"role": "user", "content": f"The tool answered:\n{message.get('content') or ''}"}
    calls = message.get("tool_calls")
    if not calls:
        return message
    said = [message.get("content") or "", *(_written(call, family) for call in calls)]
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "content": "\n".join(part for part in said if part)}


def _written(call: JsonObject, family: ToolFamily) -> str:
    function = call.get("function")
    if not isinstance(function, dict):
        return ""
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return _call(str(function.get("name", "")), text, family)
