"""Replies held to a shape through the whole backend: schemas, grammars, forced calls, and going on after a loss."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from tasks.contract import JobKind, Resume
from tasks.errors import BadRequestError
from tests.fakes.backend_parts import RecordingReply, chat
from tests.worker.backends.tiny_chat import run, shown, tiny_backend, tokens, whole
from worker.backends.base import CancelToken
from worker.backends.llama import LlamaBackend, _Running
from worker.chat.reasoning import HARMONY_MARKERS
from worker.chat.structured.compiled import Compiled

PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Bö"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Bärn"]}, "days": {"enum": [1, 2]}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": NOTHING}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
DIALECTS = {
    "hermes": ("<tool_call>", "</tool_call>"),
    "thinking": ("<think>", "</think>", "<tool_call>", "</tool_call>"),
    "mistral": ("[TOOL_CALLS]",),
    "mistral_args": ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
    "harmony": HARMONY_MARKERS,
}


def format_of(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}


@pytest.fixture(scope="module", params=DIALECTS)
def dialect(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaBackend]:
    with tiny_backend(tmp_path_factory.mktemp("tiny"), *DIALECTS[request.param]) as backend:
        yield backend


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaBackend]:
    with tiny_backend(tmp_path_factory.mktemp("tiny")) as backend:
        yield backend


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaBackend]:
    """Its prompts end inside the reasoning."""
    with tiny_backend(tmp_path_factory.mktemp("tiny"), *DIALECTS["thinking"], tail="<think>") as backend:
        yield backend


def likelier(backend: LlamaBackend, **bias: float) -> dict[str, float]:
    """`logit_bias` for the ids of markers."""
    model: Any = backend._model
    ids = {text: model.tokenize(text, add_special=False, parse_special=True) for text in bias}
    return {str(found[0]): bias[text] for text, found in ids.items() if len(found) == 1}


def markers(backend: LlamaBackend) -> dict[str, float]:
    """Reasoning ends sooner or later."""
    return likelier(backend, **{"</think>": 12.0, "<|end|>": 12.0})


def message_of(backend: LlamaBackend, **fields: Any) -> dict[str, Any]:
    choice = whole(run(backend, chat(stream=False, temperature=1, logit_bias=markers(backend), **fields)))["choices"][
        0
    ]
    return {**choice["message"], "finish_reason": choice["finish_reason"]}


# --------------------------------------------------------------------- schemas and grammars


@pytest.mark.parametrize("seed", range(3))
def test_a_schema_is_kept_by_every_dialect(dialect, seed):
    message = message_of(dialect, seed=seed, max_tokens=300, response_format=format_of(PERSON, strict=True))
    assert message["finish_reason"] == "stop"
    jsonschema.validate(json.loads(message["content"]), PERSON)


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_object", "schema": PERSON}},
        {"json_schema": PERSON},
        {"grammar": r'root ::= "{\"name\": \"" ("Ada" | "Bö") "\", \"age\": " [1-9]{1,2} "}"'},
    ],
)
def test_the_other_ways_to_ask(plain, fields):
    message = message_of(plain, seed=1, max_tokens=200, **fields)
    assert set(json.loads(message["content"])) == {"name", "age"}


def test_json_object_is_any_object(plain):
    reply = run(plain, chat(stream=False, seed=3, max_tokens=300, response_format={"type": "json_object"}))
    choice = whole(reply)["choices"][0]
    assert choice["message"]["content"].lstrip().startswith("{")
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(choice["message"]["content"]), dict)
    else:
        assert reply.finished.notice.code == "truncated_during_structured_output"


def test_a_budget_that_ends_inside_the_json_is_told(plain):
    reply = run(plain, chat(max_tokens=3, response_format=format_of(PERSON)))
    assert reply.finished.notice.code == "truncated_during_structured_output"
    assert run(plain, chat(max_tokens=3)).finished.notice is None


def test_a_budget_that_ends_in_the_reasoning_before_it_is_told_as_that(thinking):
    bias = likelier(thinking, **{"</think>": -100.0})
    reply = run(thinking, chat(max_tokens=9, temperature=0, logit_bias=bias, response_format=format_of(PERSON)))
    assert reply.finished.notice.code == "truncated_during_reasoning"
    assert reply.finished.usage.reasoning_tokens > 0


def test_reasoning_comes_before_the_json(thinking):
    bias = markers(thinking)
    reply = run(thinking, chat(stream=False, seed=2, temperature=1, logit_bias=bias, json_schema=PERSON))
    message = whole(reply)["choices"][0]["message"]
    jsonschema.validate(json.loads(message["content"]), PERSON)
    assert message["reasoning"]
    assert "think>" not in message["content"]
    assert reply.finished.usage.reasoning_tokens > 0


def test_what_a_strict_schema_cannot_hold_is_named(plain):
    schema = {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 2, "uniqueItems": True}
    reply = run(plain, chat(max_tokens=200, seed=1, response_format=format_of(schema, strict=True)))
    assert reply.finished.notice.code == "strict_schema_not_enforced"
    assert "/uniqueItems" in reply.finished.notice.message
    assert run(plain, chat(max_tokens=200, seed=1, response_format=format_of(schema))).finished.notice is None


def test_what_makes_no_sense_is_refused_where_it_does_not(plain):
    bad = {"type": "object", "properties": {"a": {"type": "nonsense"}}}
    for fields, code, words in (
        ({"response_format": format_of(bad)}, "bad_schema", "/properties/a"),
        ({"grammar": "root ::= oops"}, "bad_grammar", "oops"),
        ({"response_format": {"type": "yaml"}}, "bad_request", "json_schema"),
        ({"json_schema": PERSON, "grammar": 'root ::= "a"'}, "bad_request", "cannot be combined"),
        ({"grammar": 'root ::= "a"', "tools": [TIME]}, "unsupported_parameter", "tool_choice none"),
        ({"json_schema": PERSON, "tools": [TIME], "tool_choice": "required"}, "unsupported_parameter", "tools"),
        ({"tool_choice": "required"}, "bad_request", "no tools"),
        ({"tools": [TIME], "tool_choice": NAMED}, "bad_request", "not in tools"),
    ):
        with pytest.raises(BadRequestError, match=words) as caught:
            run(plain, chat(**fields))
        assert caught.value.code == code


# ------------------------------------------------------------------------------- calls


@pytest.mark.parametrize("choice", ["required", NAMED])
@pytest.mark.parametrize("seed", range(2))
def test_forced_calls_validate_in_every_dialect(dialect, choice, seed):
    fields = {"tools": [WEATHER, TIME], "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 300}
    message = message_of(dialect, seed=seed, **fields)
    (call,) = message["tool_calls"]
    assert message["finish_reason"] == "tool_calls"
    assert message["content"] is None
    name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
    if choice is NAMED:
        assert name == "get_weather"
    offered = {"get_weather": WEATHER, "get_time": TIME}
    jsonschema.validate(arguments, offered[name]["function"]["parameters"])


def some(mode: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [NAMED]}}


@pytest.mark.parametrize("seed", range(3))
def test_of_the_allowed_tools_one_is_called(dialect, seed):
    fields = {"tools": [TIME, WEATHER], "tool_choice": some("required"), "parallel_tool_calls": False}
    message = message_of(dialect, seed=seed, max_tokens=300, **fields)
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    jsonschema.validate(json.loads(call["function"]["arguments"]), WEATHER["function"]["parameters"])


def test_the_prompt_is_the_same_whatever_is_allowed(plain):
    def prompt(**fields: Any) -> tuple[int, ...]:
        prepared = plain._preparers[JobKind.CHAT].prepare(chat(tools=[TIME, WEATHER], **fields), 500)
        return prepared.requests[0].prompt

    assert prompt(tool_choice=some("auto")) == prompt(tool_choice=some("required")) == prompt()


@pytest.mark.parametrize("seed", range(4))
def test_a_free_call_is_one_of_an_allowed_tool(tmp_path, seed):
    with tiny_backend(tmp_path, *DIALECTS["hermes"]) as backend:
        bias = likelier(backend, **{"<tool_call>": 50.0, "</tool_call>": 0.0})
        asked = {"tools": [TIME, WEATHER], "tool_choice": some("auto"), "parallel_tool_calls": False}
        reply = run(backend, chat(stream=False, seed=seed, temperature=1, logit_bias=bias, max_tokens=99, **asked))
    (call,) = whole(reply)["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    jsonschema.validate(json.loads(call["function"]["arguments"]), WEATHER["function"]["parameters"])


def test_where_calls_begin_like_text_a_call_of_another_tool_is_text(plain):
    said = json.dumps({"name": "get_time", "arguments": {}})
    asked = {"tools": [TIME, WEATHER], "max_tokens": 99, "temperature": 0}
    grammar = Compiled(f"body: {json.dumps(said)}", json=False).grammar()
    for choice, calls in ((some("auto"), None), ("auto", 1)):
        prepared = plain._preparers[JobKind.CHAT].prepare(chat(stream=False, tool_choice=choice, **asked), 500)
        (request,) = prepared.requests
        masker = plain._preparers[JobKind.CHAT]._grammars.constraint(grammar)  # the model insists on this call
        reply = RecordingReply(chat(stream=False))
        ready = replace(prepared, requests=(replace(request, masker=masker),))
        plain._run(ready, _Running(chat(stream=False), reply, ready), CancelToken())
        message = whole(reply)["choices"][0]["message"]
        assert len(message.get("tool_calls") or ()) == (calls or 0)
        assert message["content"] == (None if calls else said)


def test_an_agent_answers_in_its_shape_or_calls(dialect):
    fields = {"tools": [WEATHER], "response_format": format_of(PERSON), "parallel_tool_calls": False}
    message = message_of(dialect, seed=4, **fields)
    if message["finish_reason"] == "tool_calls":
        assert message["tool_calls"][0]["function"]["name"] == "get_weather"
    else:
        jsonschema.validate(json.loads(message["content"]), PERSON)


def test_strict_tools_hold_free_calls_too(tmp_path):
    strict = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}
    with tiny_backend(tmp_path, *DIALECTS["hermes"]) as backend:
        bias = likelier(backend, **{"<tool_call>": 50.0, "</tool_call>": 0.0})
        reply = run(
            backend, chat(stream=False, seed=1, temperature=1, tools=[strict], logit_bias=bias, max_tokens=99)
        )
    calls = whole(reply)["choices"][0]["message"]["tool_calls"]
    jsonschema.validate(json.loads(calls[0]["function"]["arguments"]), WEATHER["function"]["parameters"])


# ------------------------------------------------------------------------- going on elsewhere


def test_each_choice_has_its_own_place_in_the_grammar(plain):
    asked = {"seed": 5, "temperature": 1, "max_tokens": 160, "n": 2, "response_format": format_of(PERSON)}
    for choice in whole(run(plain, chat(stream=False, **asked)))["choices"]:
        jsonschema.validate(json.loads(choice["message"]["content"]), PERSON)
    full = run(plain, chat(**asked)).chunks
    for cut in range(2, len(full) - 1, 3):
        rest = run(plain, chat(attempt=1, resume=Resume(token_ids=tokens(full[:cut])), **asked)).chunks
        for index in range(2):
            before = [choice for choice in shown(full[cut:]) if choice["index"] == index]
            assert [choice for choice in shown(rest) if choice["index"] == index] == before


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": format_of(PERSON)},
        {"tools": [WEATHER], "tool_choice": "required"},
        {"tools": [WEATHER], "tool_choice": "required", "stop": ["}}}", "unseen"]},
        {"tools": [TIME, WEATHER], "tool_choice": some("required")},
    ],
    ids=["schema", "call", "stop", "allowed"],
)
def test_a_reply_goes_on_after_any_chunk_as_if_nothing_happened(dialect, fields):
    """Grammar, parser, stop strings and half characters stand where they stood."""
    asked = {"seed": 5, "temperature": 1, "max_tokens": 160, "logit_bias": markers(dialect), **fields}
    full = run(dialect, chat(**asked)).chunks
    assert len(full) > 5
    for cut in range(1, len(full) - 1):
        resume = Resume(token_ids=tokens(full[:cut]))
        rest = run(dialect, chat(attempt=1, resume=resume, **asked)).chunks
        assert shown(rest) == shown(full[cut:]), f"cut after chunk {cut}"
        assert tokens(rest) == tokens(full[cut:])
