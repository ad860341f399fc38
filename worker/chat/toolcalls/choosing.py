"""`tool_choice` in OpenAI's forms: which tools a reply may call, and whether it has to call one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from worker.chat.toolcalls.forced import Tool

_FORMS = (
    '"none", "auto", "required", {"type": "function", "function": {"name": …}} or '
    '{"type": "allowed_tools", "allowed_tools": {"mode": …, "tools": […]}}'
)
_ALLOWED = "tool_choice.allowed_tools"
_ENTRY = '{"type": "function", "function": {"name": …}}'


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """The reply may call `allowed`, and has to call one of `forced`, if that is given.

    `restricted`: the model is shown others as well, which it must not call.
    """

    allowed: tuple[Tool, ...] = field(default=(), repr=False)
    forced: tuple[Tool, ...] | None = field(default=None, repr=False)
    restricted: bool = False


def chosen(tools: Sequence[Tool], tool_choice: str | JsonObject | None) -> ToolChoice:
    """What a request with these `tools` asks for.

    Raises BadRequestError for a choice that is none of OpenAI's forms, or names a tool that was not offered.
    """
    offered = tuple(tools)
    if tool_choice in (None, "auto"):
        return ToolChoice(offered)
    if tool_choice == "none":
        return ToolChoice()
    if not offered:
        raise BadRequestError("tool_choice asks for a call, but there are no tools", param="tool_choice")
    if tool_choice == "required":
        return ToolChoice(offered, forced=offered)
    if isinstance(tool_choice, dict) and tool_choice.get("type") == "allowed_tools":
        return _among(offered, tool_choice.get("allowed_tools"))
    return ToolChoice(offered, forced=_named(offered, tool_choice))


def _named(tools: tuple[Tool, ...], choice: Any) -> tuple[Tool, ...]:
    name = _name(choice)
    if name is None:
        raise BadRequestError(f"tool_choice is {_FORMS}", param="tool_choice")
    picked = tuple(tool for tool in tools if tool.name == name)
    if not picked:
        raise BadRequestError("tool_choice names a function that is not in tools", param="tool_choice")
    return picked


def _among(tools: tuple[Tool, ...], asked: Any) -> ToolChoice:
    """`allowed_tools`: some of the tools, the others are shown only (their text stays in the prompt's cache)."""
    mode, listed = (asked.get("mode"), asked.get("tools")) if isinstance(asked, dict) else (None, None)
    if mode not in ("auto", "required"):
        raise BadRequestError(f'{_ALLOWED}.mode is "auto" or "required"', param=f"{_ALLOWED}.mode")
    if not isinstance(listed, list) or not listed:
        raise BadRequestError(f"{_ALLOWED}.tools is a list of one or more {_ENTRY}", param=f"{_ALLOWED}.tools")
    names = _names(listed, {tool.name for tool in tools})
    allowed = tuple(tool for tool in tools if tool.name in names)
    return ToolChoice(allowed, forced=allowed if mode == "required" else None, restricted=len(allowed) < len(tools))


def _names(listed: list[Any], offered: set[str]) -> set[str]:
    """Told by their place when they are wrong: an error quotes nothing that was sent."""
    names = [_name(entry) for entry in listed]
    if None in names:
        place = f"{_ALLOWED}.tools[{names.index(None)}]"
        raise BadRequestError(f"{place} is not {_ENTRY}", param=place)
    unknown = [f"{_ALLOWED}.tools[{index}]" for index, name in enumerate(names) if name not in offered]
    if unknown:
        verb = "names a function that is" if len(unknown) == 1 else "name functions that are"
        raise BadRequestError(f"{', '.join(unknown)} {verb} not in tools", param=unknown[0])
    return {name for name in names if name is not None}


def _name(entry: Any) -> str | None:
    """Of a `{"type": "function", "function": {"name": …}}`; None = it is none."""
    function = entry.get("function") if isinstance(entry, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
