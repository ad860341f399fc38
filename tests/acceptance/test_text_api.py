"""What apps ask for beyond plain chat, by the official clients on the real model: shapes, calls, choices, prompts."""

from __future__ import annotations

import json
from statistics import mean
from typing import Any

import jsonschema
import openai
import pendra
import pytest
from pydantic import BaseModel

from tests.acceptance.stack import MODEL

ASK: list[Any] = [{"role": "user", "content": "Describe a person: Ada, aged 36."}]
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
STRICT: Any = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}
FIXED: dict[str, Any] = {"temperature": 0.0, "max_tokens": 120}


def test_a_strict_schema_whole_and_streamed(openai_client: openai.OpenAI) -> None:
    whole = openai_client.chat.completions.create(model=MODEL, messages=ASK, response_format=STRICT, **FIXED)
    jsonschema.validate(json.loads(whole.choices[0].message.content or ""), PERSON)
    assert whole.choices[0].finish_reason == "stop"
    chunks = openai_client.chat.completions.create(
        model=MODEL, messages=ASK, response_format=STRICT, stream=True, **FIXED
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    jsonschema.validate(json.loads(text), PERSON)


def test_the_sdks_own_parsing(openai_client: openai.OpenAI) -> None:
    class Person(BaseModel):
        name: str
        age: int

    reply = openai_client.chat.completions.parse(model=MODEL, messages=ASK, response_format=Person, **FIXED)
    assert isinstance(reply.choices[0].message.parsed, Person)


def test_any_object_and_a_grammar(openai_client: openai.OpenAI) -> None:
    reply = openai_client.chat.completions.create(
        model=MODEL, messages=ASK, response_format={"type": "json_object"}, temperature=0, max_tokens=300
    )
    text = reply.choices[0].message.content or ""
    if reply.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)
    else:
        assert text.lstrip().startswith("{")
    held = openai_client.chat.completions.create(
        model=MODEL, messages=ASK, extra_body={"grammar": 'root ::= ("yes" | "no") " ma\'am"'}, **FIXED
    )
    assert held.choices[0].message.content in {"yes ma'am", "no ma'am"}


def test_a_budget_that_ends_inside_the_json_is_told(pendra_client: pendra.Pendra) -> None:
    reply = pendra_client.chat.completions.create(
        model=MODEL, messages=ASK, response_format=STRICT, temperature=0, max_tokens=3
    )
    assert reply.pendra.notice.code == "truncated_during_structured_output"


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_forced_calls_validate(openai_client: openai.OpenAI, choice: Any) -> None:
    ask: list[Any] = [{"role": "user", "content": "What is the weather in Rome?"}]
    asked: dict[str, Any] = {"tools": [WEATHER], "tool_choice": choice, "parallel_tool_calls": False, **FIXED}
    reply = openai_client.chat.completions.create(model=MODEL, messages=ask, **asked)
    assert reply.choices[0].finish_reason == "tool_calls"
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 100, "this model's template knows no tools: it is told of them in words"
    (call,) = reply.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert call.function.name == "get_weather"
    jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])
    with openai_client.chat.completions.stream(model=MODEL, messages=ask, **asked) as stream:
        stream.until_done()
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls or ()
    assert streamed.function.name == "get_weather"
    jsonschema.validate(json.loads(streamed.function.arguments), WEATHER["function"]["parameters"])


@pytest.mark.parametrize("mode", ["required", "auto"])
def test_only_the_allowed_tools_are_called(openai_client: openai.OpenAI, mode: str) -> None:
    ask: list[Any] = [{"role": "user", "content": "What time is it in Rome?"}]
    time: Any = {
        "type": "function",
        "function": {"name": "get_time", "parameters": WEATHER["function"]["parameters"]},
    }
    choice: Any = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [NAMED]}}
    asked: dict[str, Any] = {"model": MODEL, "messages": ask, "tools": [time, WEATHER], **FIXED}
    reply = openai_client.chat.completions.create(**asked, tool_choice=choice, parallel_tool_calls=False)
    called = [call.function.name for call in reply.choices[0].message.tool_calls or () if call.type == "function"]
    assert called == ["get_weather"] if mode == "required" else set(called) <= {"get_weather"}
    choice["allowed_tools"]["tools"] = [NAMED, {"type": "function", "function": {"name": "get_rain"}}]
    with pytest.raises(openai.BadRequestError, match="not in tools") as caught:
        openai_client.chat.completions.create(**asked, tool_choice=choice)
    assert caught.value.param == "tool_choice.allowed_tools.tools[1]"


def test_a_bad_schema_is_a_400_with_its_pointer(openai_client: openai.OpenAI) -> None:
    bad: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"a": {"type": "no"}}}}}
    with pytest.raises(openai.BadRequestError, match="/properties/a") as caught:
        openai_client.chat.completions.create(model=MODEL, messages=ASK, response_format=bad)
    assert caught.value.code == "bad_schema"


def test_log_probabilities(openai_client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 3, "temperature": 0, "max_tokens": 6}
    reply = openai_client.chat.completions.create(model=MODEL, messages=ASK, **asked)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    entries = logprobs.content or []
    spelled = b"".join(bytes(entry.bytes or ()) for entry in entries).decode()
    assert spelled == reply.choices[0].message.content
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token  # temperature 0 takes the most likely
    chunks = openai_client.chat.completions.create(model=MODEL, messages=ASK, stream=True, **asked)
    streamed = [c.choices[0].logprobs for c in chunks if c.choices and c.choices[0].logprobs]
    assert [entry.token for part in streamed for entry in part.content or ()] == [entry.token for entry in entries]


def test_several_choices(openai_client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"n": 3, "seed": 5, "temperature": 1.2, "max_tokens": 10}
    reply = openai_client.chat.completions.create(model=MODEL, messages=ASK, **asked)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) > 1
    said = ["", "", ""]
    for chunk in openai_client.chat.completions.create(model=MODEL, messages=ASK, stream=True, **asked):
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
    assert all(said)


def test_completions(openai_client: openai.OpenAI) -> None:
    prompt = "The capital of France is"
    asked: dict[str, Any] = {"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": 5}
    reply = openai_client.completions.create(**asked, logprobs=2, extra_body={"cache_prompt": False})
    assert "Paris" in reply.choices[0].text
    assert reply.object == "text_completion"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 5
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or ()) == reply.choices[0].text
    text = "".join(c.choices[0].text for c in openai_client.completions.create(**asked, stream=True) if c.choices)
    assert "Paris" in text
    assert openai_client.completions.create(**asked, echo=True).choices[0].text.startswith(prompt)
    many = openai_client.completions.create(**{**asked, "prompt": [prompt, "Two and two make"]}, n=2)
    assert [choice.index for choice in many.choices] == [0, 1, 2, 3]
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.completions.create(**asked, suffix="!")
    assert caught.value.param == "suffix"


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_how_likely_a_prompt_is(openai_client: openai.OpenAI, max_tokens: int) -> None:
    """As evaluation harnesses ask: which of two endings does the model expect?"""
    prompts = ["The capital of France is Paris", "The capital of France is Tokyo"]
    asked: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens, "echo": True, "logprobs": 1}
    reply = openai_client.completions.create(model=MODEL, prompt=prompts, **asked)
    last = []
    for prompt, choice in zip(prompts, reply.choices, strict=True):
        assert choice.text.startswith(prompt)
        logprobs = choice.logprobs
        assert logprobs is not None
        assert "".join(logprobs.tokens or ()) == choice.text
        last.append((logprobs.token_logprobs or [])[len(logprobs.tokens or ()) - 1 - max_tokens])
    assert last[0] > last[1] + 1


def test_the_best_of_several_completions(openai_client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": "My favourite colour is", "temperature": 1.5, "max_tokens": 6}
    reply = openai_client.completions.create(**asked, seed=3, best_of=4, logprobs=0)
    assert reply.usage is not None
    assert reply.usage.completion_tokens > 6, "those that were not returned count, too"
    every = openai_client.completions.create(**asked, seed=3, n=4, logprobs=0)
    (best,) = reply.choices
    likeliest = max(every.choices, key=lambda one: mean(one.logprobs.token_logprobs or [0]))  # type: ignore[union-attr,arg-type]
    assert best.text == likeliest.text
    with pytest.raises(openai.BadRequestError, match="streamed") as caught:
        openai_client.completions.create(**asked, best_of=4, stream=True)
    assert caught.value.param == "best_of"


def test_an_image_is_refused_with_what_could_take_it(openai_client: openai.OpenAI) -> None:
    picture: Any = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}
    ]
    with pytest.raises(openai.BadRequestError, match="no installed model") as caught:
        openai_client.chat.completions.create(model=MODEL, messages=picture)
    assert caught.value.code == "unsupported_content"
