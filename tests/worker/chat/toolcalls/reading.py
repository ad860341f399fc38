"""Running a parser over text, and what is expected of any."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from worker.chat.toolcalls.deltas import CallArguments, CallStart, Delta, assembled, call_ids
from worker.chat.toolcalls.family import ToolFamily
from worker.chat.toolcalls.parser import ToolCallParser

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: Mapping[str, Any] = {"get_weather": WEATHER, "get_time": {"type": "object", "properties": {}}}

Said = tuple[str, list[tuple[str, Any]]]
"""Content, and each call's name with its arguments."""


def deltas_of(family: ToolFamily, pieces: Sequence[str], tools: Mapping[str, Any] = TOOLS) -> list[Delta]:
    parser = ToolCallParser(family, tools, call_ids("job"))
    deltas = [delta for piece in pieces for delta in parser.feed(piece)] + parser.finish()
    _check_order(deltas)
    assert parser.calls == sum(isinstance(delta, CallStart) for delta in deltas)
    return deltas


def _check_order(deltas: list[Delta]) -> None:
    """Calls come one after another, each starts once, and nothing is handed out empty."""
    started = 0
    for delta in deltas:
        if isinstance(delta, CallStart):
            assert delta.index == started
            assert delta.name
            started += 1
        elif isinstance(delta, CallArguments):
            assert delta.index == started - 1
            assert delta.fragment
        else:
            assert delta.text


def read(family: ToolFamily, pieces: Sequence[str], tools: Mapping[str, Any] = TOOLS) -> Said:
    """Content and calls, the arguments as values."""
    content, calls = assembled(deltas_of(family, pieces, tools))
    return content, [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


def raw(family: ToolFamily, pieces: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """Content and calls, the arguments as they were written."""
    content, calls = assembled(deltas_of(family, pieces))
    return content, [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
