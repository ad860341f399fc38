"""The body that Ollama is sent: options, the rule of `num_ctx`, thinking, formats, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.contract import ModelInfo
from tasks.errors import BadRequestError
from worker.backends.external.ollama.request import chat_body, promises_json
from worker.backends.external.product import Served

HI = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def model(context_length: int | None = 8192, features: tuple[str, ...] | None = ("thinking",)) -> Served:
    return Served(ModelInfo(id="m", context_length=context_length, features=features), "own:m")


def made(served: Served | None = None, **fields: Any) -> dict[str, Any]:
    return chat_body({"model": "m", "messages": HI, **fields}, served or model())


def refusal(**fields: Any) -> BadRequestError:
    with pytest.raises(BadRequestError) as caught:
        made(**fields)
    return caught.value


def test_the_least():
    assert made() == {"model": "own:m", "messages": HI, "stream": True, "options": {"num_ctx": 8192}}


def test_sampling_becomes_options():
    asked = {
        "temperature": 0,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "repeat_penalty": 1.1,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "seed": 7,
    }
    assert made(**asked, stop="END", max_tokens=5)["options"] == {
        **asked,
        "stop": ("END",),
        "num_predict": 5,
        "num_ctx": 8192,
    }
    assert made(stop=["a", "b"], max_tokens=5, max_completion_tokens=6)["options"] == {
        "stop": ("a", "b"),
        "num_predict": 6,
        "num_ctx": 8192,
    }


@pytest.mark.parametrize(
    ("options", "context_length", "num_ctx"),
    [
        (None, 8192, 8192),
        ({"num_ctx": 2048}, 8192, 2048),
        ({"num_ctx": 2048}, None, 2048),
        ({"num_ctx": None}, 8192, 8192),
        ({"mirostat": 0}, 8192, 8192),
        (None, None, None),
    ],
)
def test_num_ctx_is_the_clients_else_the_models(options: Any, context_length: int | None, num_ctx: int | None):
    assert made(model(context_length), options=options)["options"].get("num_ctx") == num_ctx


def test_the_clients_own_options_win():
    assert made(temperature=0.5, options={"temperature": 0.1, "num_gpu": 1})["options"] == {
        "temperature": 0.1,
        "num_gpu": 1,
        "num_ctx": 8192,
    }


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"enable_thinking": True}, True),
        ({"enable_thinking": False}, False),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "low"}, "low"),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "xhigh"}, "max"),
        ({"reasoning": {"effort": "high"}}, "high"),
        ({"reasoning_effort": "high", "enable_thinking": False}, False),
        ({"think": "medium"}, "medium"),
    ],
)
def test_thinking(fields: dict[str, Any], think: Any):
    assert made(**fields).get("think") == think
    assert made(model(features=None), **fields).get("think") == think
    assert "think" not in made(model(features=("tools",)), **fields)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, "json"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}, SCHEMA),
        ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, SCHEMA),
        ({"json_schema": SCHEMA}, SCHEMA),
    ],
)
def test_formats(fields: dict[str, Any], wanted: Any):
    assert made(**fields).get("format") == wanted
    assert promises_json(made(**fields)) is (wanted is not None)


def test_tools_and_what_ollama_reads_itself():
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert made(tools=tools)["tools"] == tools
    assert "tools" not in made(tools=tools, tool_choice="none")
    body = made(keep_alive="10m", truncate=False, logprobs=True, top_logprobs=3)
    assert (body["keep_alive"], body["truncate"], body["logprobs"], body["top_logprobs"]) == ("10m", False, True, 3)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"temperature": "hot"}, "temperature", "bad_request"),
        ({"temperature": 9}, "temperature", "bad_request"),
        ({"seed": 1.5}, "seed", "bad_request"),
        ({"stop": [1]}, "stop[0]", "bad_request"),
        ({"max_tokens": 0}, "max_tokens", "bad_request"),
        ({"options": []}, "options", "bad_request"),
        ({"options": {"num_ctx": "4096"}}, "options.num_ctx", "bad_request"),
        ({"options": {"num_ctx": 0}}, "options.num_ctx", "bad_request"),
        ({"options": {"temperature": "hot"}}, "options.temperature", "bad_request"),
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"logit_bias": {"1": 5}}, "logit_bias", "unsupported_parameter"),
        ({"grammar": "root ::= x"}, "grammar", "unsupported_parameter"),
        ({"tool_choice": "required"}, "tool_choice", "unsupported_parameter"),
        ({"tool_choice": {"type": "function"}}, "tool_choice", "unsupported_parameter"),
        ({"functions": [{}]}, "functions", "unsupported_parameter"),
        ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
        ({"reasoning_effort": "wild"}, "reasoning_effort", "unsupported_parameter"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "bad_request"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "bad_request"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], param: str, code: str):
    error = refusal(**fields)
    assert (error.param, error.code) == (param, code)
