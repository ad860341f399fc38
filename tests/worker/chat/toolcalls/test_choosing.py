"""Which tools a reply may call, and whether it has to: OpenAI's forms of `tool_choice`."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import BadRequestError
from tests.worker.chat.toolcalls.reading import TOOLS, read
from worker.chat.toolcalls import family as families
from worker.chat.toolcalls.choosing import ToolChoice, chosen
from worker.chat.toolcalls.deltas import CallStart, Delta, assembled, call_ids
from worker.chat.toolcalls.family import ToolFamily
from worker.chat.toolcalls.forced import Tool
from worker.chat.toolcalls.parser import ToolCallParser

BOTH = (Tool("get_weather", TOOLS["get_weather"]), Tool("get_time", TOOLS["get_time"], index=1))
SECRET = "a-secret-name"


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def among(*names: str, mode: Any = "auto") -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [function(name) for name in names]}}


def test_the_choice_picks_tools() -> None:
    assert chosen(BOTH, None) == chosen(BOTH, "auto") == ToolChoice(BOTH)
    assert chosen(BOTH, "none") == ToolChoice()
    assert chosen(BOTH, "required") == ToolChoice(BOTH, forced=BOTH)
    assert chosen(BOTH, function("get_time")) == ToolChoice(BOTH, forced=BOTH[1:])
    assert chosen((), None) == ToolChoice()


def test_some_of_the_tools_are_allowed() -> None:
    assert chosen(BOTH, among("get_time")) == ToolChoice(BOTH[1:], restricted=True)
    assert chosen(BOTH, among("get_time", mode="required")) == ToolChoice(BOTH[1:], forced=BOTH[1:], restricted=True)


def test_all_of_them_is_as_if_nothing_was_said_of_them() -> None:
    assert chosen(BOTH, among("get_time", "get_weather")) == chosen(BOTH, "auto")
    assert chosen(BOTH, among("get_time", "get_weather", "get_time", mode="required")) == chosen(BOTH, "required")


def test_a_whole_definition_counts_by_its_name() -> None:
    choice = among("get_time")
    choice["allowed_tools"]["tools"][0]["function"]["description"] = "What time it is."
    assert chosen(BOTH, choice).allowed == BOTH[1:]


@pytest.mark.parametrize(
    ("choice", "param", "words"),
    [
        ("any", "tool_choice", "allowed_tools"),
        (3, "tool_choice", "required"),
        ({}, "tool_choice", "function"),
        ({"function": {}}, "tool_choice", "function"),
        ({"function": {"name": ["get_time"]}}, "tool_choice", "function"),
        (function("no"), "tool_choice", "not in tools"),
        ({"type": "allowed_tools"}, "tool_choice.allowed_tools.mode", '"auto" or "required"'),
        (among("get_time", mode="none"), "tool_choice.allowed_tools.mode", '"auto" or "required"'),
        (among(), "tool_choice.allowed_tools.tools", "one or more"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [function("get_time"), "x"]}},
            "tool_choice.allowed_tools.tools[1]",
            "is not",
        ),
    ],
)
def test_a_wrong_choice_is_refused(choice: Any, param: str, words: str) -> None:
    with pytest.raises(BadRequestError, match=words) as caught:
        chosen(BOTH, choice)
    assert caught.value.param == param


def test_every_unknown_name_is_told_by_its_place_and_none_is_quoted() -> None:
    with pytest.raises(BadRequestError) as caught:
        chosen(BOTH, among(SECRET, "get_time", SECRET))
    assert caught.value.param == "tool_choice.allowed_tools.tools[0]"
    assert caught.value.message == (
        "tool_choice.allowed_tools.tools[0], tool_choice.allowed_tools.tools[2] name functions that are not in tools"
    )


@pytest.mark.parametrize("choice", ["required", among("get_time")])
def test_a_call_without_tools_is_refused(choice: Any) -> None:
    with pytest.raises(BadRequestError, match="no tools"):
        chosen((), choice)


# ------------------------------------------------------------- a call of another tool, whatever the model writes

CALLS = [
    (families.HERMES, '<tool_call>\n{"name": "%s", "arguments": {}}\n</tool_call>'),
    (families.QWEN_XML, "<tool_call>\n<function=%s>\n</function>\n</tool_call>"),
    (families.QWEN_XML, "<function=%s>\n<parameter=x>\n1\n</parameter>\n</function>"),
    (families.LLAMA3, '<|python_tag|>{"name": "%s", "parameters": {}}'),
    (families.LLAMA3, '{"name": "%s", "parameters": {}}'),
    (families.MISTRAL, '[TOOL_CALLS][{"name": "%s", "arguments": {}}]'),
    (families.MISTRAL_ARGS, "[TOOL_CALLS]%s[ARGS]{}"),
    (families.DEEPSEEK, "<｜tool▁call▁begin｜>function<｜tool▁sep｜>%s\n```json\n{}\n```<｜tool▁call▁end｜>"),
    (families.DEEPSEEK_V31, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>%s<｜tool▁sep｜>{}<｜tool▁call▁end｜>"),
    (families.HARMONY, "<|channel|>commentary to=functions.%s <|constrain|>json<|message|>{}<|call|>"),
    (families.GENERIC, '{"name": "%s", "arguments": {}}'),
]


def parsed(family: ToolFamily, text: str, step: int) -> list[Delta]:
    parser = ToolCallParser(family, {"get_time": TOOLS["get_time"]}, call_ids("job"), closed=True)
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    return [delta for piece in pieces for delta in parser.feed(piece)] + parser.finish()


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(("family", "call"), CALLS, ids=lambda value: getattr(value, "name", ""))
def test_it_is_content(family: ToolFamily, call: str, step: int) -> None:
    said = call % "get_weather"
    deltas = parsed(family, said, step)
    assert assembled(deltas) == (said, [])
    assert read(family, [call % "get_time"])[1], "the same words are a call where the tool may be called"
    assert [delta.name for delta in parsed(family, call % "get_time", step) if isinstance(delta, CallStart)] == [
        "get_time"
    ]


@pytest.mark.parametrize("step", [1, 1000])
def test_a_right_call_before_it_stays_one(step: int) -> None:
    call = "<｜tool▁call▁begin｜>%s<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
    text = f"<｜tool▁calls▁begin｜>{call % 'get_time'}{call % 'get_weather'}<｜tool▁calls▁end｜>"
    content, calls = assembled(parsed(families.DEEPSEEK_V31, text, step))
    assert [made["function"]["name"] for made in calls] == ["get_time"]
    assert "get_weather" in content
