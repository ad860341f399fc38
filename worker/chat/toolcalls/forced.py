"""Grammars that make a model call tools, in its family's own syntax, with arguments that always validate. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from worker.chat.structured.compiled import Compiled
from worker.chat.structured.schema import enforceable, json_rule
from worker.chat.toolcalls.family import CallSyntax, ToolFamily

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_NO_ARGUMENTS: JsonObject = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that was offered, `tools[index]`. `parameters`: the JSON schema of its arguments, an object's."""

    name: str
    parameters: JsonObject = field(repr=False)
    strict: bool = False
    index: int = 0


def parse_tools(tools: Sequence[JsonObject]) -> tuple[Tool, ...]:
    """The request's `tools`. Raises BadRequestError naming the tool that is wrong."""
    found: dict[str, Tool] = {}
    for index, entry in enumerate(tools):
        tool = _parse_tool(entry, index)
        if tool.name in found:
            raise BadRequestError(
                f"tools[{index}] has the name of an earlier tool", param=f"tools[{index}].function.name"
            )
        found[tool.name] = tool
    return tuple(found.values())


def offered(tools: Sequence[Tool]) -> Mapping[str, Any]:
    """For `ToolCallParser`."""
    return {tool.name: tool.parameters for tool in tools}


def forced_calls(family: ToolFamily, tools: Sequence[Tool], *, parallel: bool = True) -> Compiled:
    """The reply is a call of one of the tools; with `parallel`, one or more. Raises like `compile_schema`."""
    calls, not_enforced = _calls(family.syntax, tools)
    rules = f"body: {_block(family.syntax, parallel=parallel)}\n{calls}"
    return Compiled(rules, not_enforced, json=False)


def possible_calls(family: ToolFamily, tools: Sequence[Tool], *, parallel: bool = True) -> Compiled | None:
    """The reply is free text, in which every call must be right (`tool_choice` `auto`).

    None for families whose calls cannot be told from text by what they begin with.
    """
    if not family.trigger or not tools:
        return None
    calls, not_enforced = _calls(family.syntax, tools)
    block = _block(family.syntax, parallel=parallel, begun=family.trigger)
    body = "body: said* REST\nsaid: lead block" if parallel else "body: (lead block) | REST"
    lead = f"lead[lazy]: /(?s:.)*{_regex(family.trigger)}/\nREST: /(?s:.)*/"
    return Compiled(f"{body}\nblock: {block}\n{lead}\n{calls}", not_enforced, json=False)


def _parse_tool(entry: Any, index: int) -> Tool:
    place = f"tools[{index}]"
    function = (
        entry.get("function") if isinstance(entry, dict) and entry.get("type", "function") == "function" else None
    )
    if not isinstance(function, dict):
        raise BadRequestError(f'{place} is not {{"type": "function", "function": {{…}}}}', param=place)
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        allowed = "1 to 128 letters, digits, or any of _ . : / -"
        raise BadRequestError(f"{place}.function.name is {allowed}", param=f"{place}.function.name")
    parameters = function.get("parameters") or _NO_ARGUMENTS
    if not isinstance(parameters, dict):
        raise BadRequestError(f"{place}.function.parameters is a JSON schema", param=f"{place}.function.parameters")
    return Tool(name, parameters, strict=function.get("strict") is True, index=index)


def _calls(syntax: CallSyntax, tools: Sequence[Tool]) -> tuple[str, tuple[str, ...]]:
    """The rule `call`, its alternatives, and pointers to what they do not enforce."""
    rules = ["call: " + " | ".join(f"call{i}" for i in range(len(tools)))]
    missed: list[str] = []
    for i, tool in enumerate(tools):
        schema = {"type": "object", **tool.parameters}
        held, dropped = enforceable(json.dumps(schema), f"tools.{tool.name}.parameters")
        missed += [f"/tools/{tool.index}/function/parameters{where}" for where in dropped]
        rules.append(f"call{i}: {_text(tool.name + syntax.middle)} args{i} {_text(syntax.after)}")
        rules.append(f"args{i}: {json_rule(json.loads(held))}")
    return "\n".join([*rules, ""]), tuple(missed)


def _block(syntax: CallSyntax, *, parallel: bool, begun: str = "") -> str:
    """One call or more, with what stands around them; `begun`: how much of it is written already."""
    first = (syntax.opening + syntax.before).removeprefix(begun)
    more = f"({_text(syntax.between + syntax.before)} call)*" if parallel and syntax.several else ""
    return " ".join(part for part in (_text(first), "call", more, _text(syntax.closing)) if part)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def _regex(text: str) -> str:
    return re.escape(text).replace("/", "\\/")
