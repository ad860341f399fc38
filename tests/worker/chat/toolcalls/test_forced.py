"""A forced reply is calls of the family, right by the tools' schemas, whatever the model would rather say."""

from __future__ import annotations

from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import BadRequestError
from tests.worker.chat.structured.schemas import schemas
from tests.worker.chat.structured.toy_vocab import babble, tokens_of, toy_vocab
from tests.worker.chat.toolcalls.reading import TOOLS, WEATHER, read
from worker.chat.reasoning import HARMONY as CHANNELS
from worker.chat.reasoning import Channel, ReasoningStyle
from worker.chat.toolcalls import family as families
from worker.chat.toolcalls.family import FAMILIES, ToolFamily
from worker.chat.toolcalls.forced import Tool, forced_calls, offered, parse_tools, possible_calls

VOCAB = toy_vocab()
WEATHER_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
TIME_TOOL = {"type": "function", "function": {"name": "get_time"}}
BOTH = parse_tools([WEATHER_TOOL, TIME_TOOL])
EACH = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@EACH
@pytest.mark.parametrize("seed", range(4))
def test_a_forced_reply_is_nothing_but_calls(family: ToolFamily, seed: int) -> None:
    constraint = VOCAB.constraint(forced_calls(family, BOTH).grammar())
    text = babble(constraint, np.random.default_rng(seed), limit=3000)
    assert text is not None
    content, calls = read(family, [text.decode()])
    assert content == ""
    assert calls
    for name, arguments in calls:
        jsonschema.validate(arguments, TOOLS[name])


@EACH
@pytest.mark.parametrize("seed", range(2))
def test_without_parallel_calls_there_is_one(family: ToolFamily, seed: int) -> None:
    constraint = VOCAB.constraint(forced_calls(family, BOTH, parallel=False).grammar())
    text = babble(constraint, np.random.default_rng(seed), limit=3000)
    assert text is not None
    assert len(read(family, [text.decode()])[1]) == 1
    assert constraint.is_accepting


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(family=st.sampled_from(FAMILIES), schema=schemas(), seed=st.integers(0, 2**32 - 1))
def test_arguments_of_any_schema_validate(family: ToolFamily, schema: dict[str, Any], seed: int) -> None:
    parameters = {"type": "object", "properties": {"x": schema}, "required": ["x"], "$defs": schema.pop("$defs", {})}
    tool = Tool("f", parameters)
    text = babble(VOCAB.constraint(forced_calls(family, [tool]).grammar()), np.random.default_rng(seed), limit=1500)
    if text is not None:
        _, calls = read(family, [text.decode()], offered([tool]))
        assert calls
        for _, arguments in calls:
            jsonschema.validate(arguments, parameters)


@pytest.mark.parametrize(
    ("family", "style", "thought"),
    [
        (families.HERMES, ReasoningStyle(), "<think>\nHm.\n</think>\n\n"),
        (families.HARMONY, CHANNELS, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>c"),
    ],
)
def test_a_forced_call_may_come_after_reasoning(family: ToolFamily, style: ReasoningStyle, thought: str) -> None:
    grammar = forced_calls(family, BOTH).grammar(style.prelude(call=True))
    text = babble(VOCAB.constraint(grammar, tokens_of(thought.encode())), np.random.default_rng(0), limit=3000)
    assert text is not None
    splitter = style.splitter()
    pieces = splitter.feed(thought + text.decode()) + splitter.finish()
    assert pieces[0] == (Channel.REASONING, "Hm.")
    content, calls = read(family, [piece for _, piece in pieces[1:]])
    assert content == ""
    assert calls


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.trigger], ids=lambda family: family.name)
def test_a_free_reply_may_say_anything_but_a_wrong_call(family: ToolFamily) -> None:
    possible = possible_calls(family, BOTH)
    assert possible is not None
    grammar = possible.grammar()
    free = VOCAB.constraint(grammar, tokens_of(b'Hello, {"name": "nobody"} <tool_ca'))
    assert free.is_accepting
    begun = VOCAB.constraint(grammar, tokens_of(("Well. " + family.trigger).encode()))
    assert not begun.is_accepting
    text = babble(begun, np.random.default_rng(1), limit=3000)
    if text is not None:
        content, calls = read(family, ["Well. " + family.trigger + text.decode("utf-8", "replace")])
        assert content.startswith("Well.")
        assert calls


@pytest.mark.parametrize(
    "family", [families.LLAMA3, families.GENERIC, families.HARMONY], ids=lambda family: family.name
)
def test_calls_that_begin_like_text_cannot_be_watched_for(family: ToolFamily) -> None:
    assert possible_calls(family, BOTH) is None


def test_what_a_tool_schema_cannot_enforce_is_reported() -> None:
    tool = Tool("f", {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}})
    assert forced_calls(families.HERMES, [tool]).not_enforced == (
        "/tools/0/function/parameters/properties/a/uniqueItems",
    )
    parameters = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    second = parse_tools([TIME_TOOL, {"type": "function", "function": {"name": "f", "parameters": parameters}}])[1:]
    assert forced_calls(families.HERMES, second).not_enforced == (
        "/tools/1/function/parameters/properties/a/uniqueItems",
    )


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([3], "tools[0]"),
        ([{"type": "retrieval"}], "tools[0]"),
        ([{"type": "function", "function": {"name": "a b"}}], "tools[0].function.name"),
        ([TIME_TOOL, TIME_TOOL], "tools[1].function.name"),
        ([{"function": {"name": "f", "parameters": [1]}}], "tools[0].function.parameters"),
    ],
)
def test_a_wrong_tool_is_named(tools: list[Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        parse_tools(tools)
    assert caught.value.param == param


def test_a_schema_that_makes_no_sense_is_named() -> None:
    tool = Tool("f", {"type": "object", "properties": {"a": {"type": "strin"}}})
    with pytest.raises(BadRequestError, match="at /properties/a/type") as caught:
        forced_calls(families.HERMES, [tool])
    assert caught.value.code == "bad_schema"
    assert caught.value.param == "tools.f.parameters"
