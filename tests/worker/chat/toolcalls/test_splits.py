"""Where the text is cut does not matter, and what is no call is content: nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.chat.toolcalls.outputs import OUTPUTS
from tests.worker.chat.toolcalls.reading import raw
from worker.chat.toolcalls import families as f
from worker.chat.toolcalls.family import FAMILIES, ToolFamily

PARTS = (
    f.TOOL_CALL,
    f.TOOL_CALL_END,
    f.PYTHON_TAG,
    f.TOOL_CALLS,
    f.ARGS,
    f.CALL_ID,
    f.CALLS_BEGIN,
    f.CALLS_END,
    f.CALL_BEGIN,
    f.CALL_END,
    f.SEP,
    f.START,
    f.CHANNEL,
    f.MESSAGE,
    "commentary to=functions.get_time",
    " to=",
    "get_weather",
    "\n",
    " ",
    '{"name": "get_weather", "arguments": {"city": "Paris"}}',
    '{"name": "get_time", "parameters": {',
    "```json\n",
    "```",
    '{"city": "Rome"}',
    "[",
    "]",
    "{",
    "}",
    '"',
    ",",
    ";",
    "\\",
    "function",
    "<function=get_weather>",
    "</function>",
    "<parameter=city>",
    "</parameter>",
    "Hello",
)
RANDOM = st.lists(st.one_of(st.sampled_from(PARTS), st.text("<{[ é`", max_size=3)), max_size=10).map("".join)


def cut(text: str, at: set[int]) -> list[str]:
    places = sorted(place % (len(text) + 1) for place in at)
    return [text[i:j] for i, j in zip([0, *places], [*places, len(text)], strict=True)]


CUTS = st.sets(st.integers(0, 10_000), max_size=6)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@settings(max_examples=200, deadline=None)
@given(text=RANDOM, at=CUTS)
def test_any_split_of_anything_gives_the_same(family: ToolFamily, text: str, at: set[int]) -> None:
    whole = raw(family, [text])
    assert raw(family, cut(text, at)) == whole
    assert raw(family, list(text)) == whole


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@settings(max_examples=200, deadline=None)
@given(text=RANDOM)
def test_text_without_calls_is_content_to_the_last_character(family: ToolFamily, text: str) -> None:
    content, calls = raw(family, [text])
    if calls:
        position = 0
        for char in content:
            position = text.index(char, position) + 1
    else:
        assert content == text


@settings(max_examples=200, deadline=None)
@given(output=st.sampled_from(OUTPUTS), end=st.integers(0, 400), at=CUTS)
def test_a_reply_that_is_cut_off(output: tuple[ToolFamily, str, object], end: int, at: set[int]) -> None:
    family, text, _ = output
    content, calls = raw(family, [text[:end]])
    assert raw(family, cut(text[:end], at)) == (content, calls)
    if not calls:
        assert content == text[:end]


@pytest.mark.parametrize(
    ("family", "text", "content", "calls"),
    [
        (
            "hermes",
            "<tool_call>\nget_weather(Paris)\n</tool_call>",
            "<tool_call>\nget_weather(Paris)\n</tool_call>",
            [],
        ),
        (
            "hermes",
            "a <tool_call>{'name': 'get_time'}</tool_call>",
            "a <tool_call>{'name': 'get_time'}</tool_call>",
            [],
        ),
        ("hermes", '<tool_call>{"name": "", "arguments": {}}', '<tool_call>{"name": "", "arguments": {}}', []),
        ("hermes", '<tool_call>{"name": "f", "arguments": [1]}', '<tool_call>{"name": "f", "arguments": [1]}', []),
        (
            "hermes",
            '<tool_call>{"name": "f", "arguments": {"a": 1, oops}}</tool_call>',
            "oops}}</tool_call>",
            [("f", '{"a": 1, ')],
        ),
        ("hermes", '<tool_call>{"name": "f", "arguments": {}, "x": ?', '"x": ?', [("f", "{}")]),
        (
            "mistral",
            '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"bogus": 1}] Bye',
            '{"bogus": 1}] Bye',
            [("f", "{}")],
        ),
        ("llama3", '{"name": "get_time", "parameters": {}}; {"x": 1}', '; {"x": 1}', [("get_time", "{}")]),
        ("deepseek", "<｜tool▁calls▁begin｜>nothing", "<｜tool▁calls▁begin｜>nothing", []),
        (
            "harmony",
            "<|channel|>commentary to=functions.get_time<|message|>print(1)",
            "<|channel|>commentary to=functions.get_time<|message|>print(1)",
            [],
        ),
    ],
)
def test_malformed_calls_are_content(family: str, text: str, content: str, calls: list[tuple[str, str]]) -> None:
    chosen = next(one for one in FAMILIES if one.name == family)
    assert raw(chosen, [text]) == (content, calls)
