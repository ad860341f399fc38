"""Every field of a chat request: what is taken, what is refused, and that no error quotes what was sent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import BadRequestError
from worker.chat.request import ChatRequest, parse_chat
from worker.engine.api import SamplingParams

SECRET = "xyzzy-the-patient"
HI = [{"role": "user", "content": "hi"}]


def ask(**fields: object) -> ChatRequest:
    return parse_chat({"model": "m", "messages": HI, **fields})


def refusal(**fields: object) -> BadRequestError:
    with pytest.raises(BadRequestError) as caught:
        ask(**fields)
    assert SECRET not in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def test_the_least_request_has_the_engines_defaults():
    assert ask() == ChatRequest(messages=({"role": "user", "content": "hi"},))
    assert ask().sampling == SamplingParams()


def test_every_sampling_field_arrives():
    sampling = {
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.9,
        "min_p": 0.1,
        "repeat_penalty": 1.1,
        "repeat_last_n": 32,
        "frequency_penalty": 0.2,
        "presence_penalty": -0.2,
        "typical_p": 0.9,
        "top_n_sigma": 1.5,
        "xtc_probability": 0.5,
        "xtc_threshold": 0.2,
        "dynatemp_range": 0.3,
        "dynatemp_exponent": 1.2,
        "dry_multiplier": 0.8,
        "dry_base": 1.5,
        "dry_allowed_length": 3,
        "dry_penalty_last_n": -1,
        "mirostat": 2,
        "mirostat_tau": 4.0,
        "mirostat_eta": 0.2,
    }
    request = ask(**sampling, seed=5, dry_sequence_breakers=["\n"], samplers=["top_k", "temperature"])
    order = ("top_k", "temperature")
    expected = SamplingParams(**sampling, seed=5, dry_sequence_breakers=("\n",), samplers=order)
    assert request.sampling == expected
    assert set(sampling) | {"seed", "dry_sequence_breakers", "samplers", "logit_bias"} == set(
        SamplingParams.__dataclass_fields__
    )


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"7": -100, "8": 1.5}, ((7, -100.0), (8, 1.5))),
        ([[7, 1], ["hello", -2.5]], ((7, 1.0), ("hello", -2.5))),
        ([[7, False]], ((7, -math.inf),)),
        ({" yes": 3}, ((" yes", 3.0),)),
        ({}, ()),
    ],
)
def test_logit_bias_in_openais_form_and_in_llama_servers(given, read):
    assert ask(logit_bias=given).biases == read


@pytest.mark.parametrize(("order", "read"), [("kpt", ("top_k", "top_p", "temperature")), (["typical"], ("typ_p",))])
def test_samplers_by_letters_and_by_other_names(order, read):
    assert ask(samplers=order).sampling.samplers == read


def test_choices_and_log_probabilities():
    assert (ask().n, ask().logprobs) == (1, None)
    assert (ask(n=3).n, ask(logprobs=True).logprobs) == (3, 0)
    assert ask(logprobs=True, top_logprobs=5).logprobs == 5
    assert (ask(n_cmpl=4).n, ask(n=2, n_cmpl=4).n) == (4, 2)
    assert ask(logprobs=False, top_logprobs=0).logprobs is None


def test_whole_numbers_are_numbers_and_null_is_not_given():
    assert ask(temperature=1).sampling.temperature == 1.0
    names = ("temperature", "top_p", "stop", "max_tokens", "seed", "stream", "logit_bias", "tools", "n", "logprobs")
    assert ask(**dict.fromkeys((*names, "response_format", "stream_options"))) == ask()


def test_lengths_and_switches():
    request = ask(max_tokens=5, min_tokens=2, ignore_eos=True, cache_prompt=False, stream=True)
    assert (request.max_tokens, request.min_tokens) == (5, 2)
    assert (request.ignore_eos, request.cache_prompt, request.stream) == (True, False, True)
    assert ask(max_tokens=5, max_completion_tokens=9).max_tokens == 9
    assert (ask(n_predict=7).max_tokens, ask(n_predict=-1).max_tokens) == (7, None)
    assert ask(n_predict=7, max_tokens=5).max_tokens == 5


@pytest.mark.parametrize(("stop", "told"), [("a", ("a",)), (["a", "bc"], ("a", "bc")), (["x"] * 16, ("x",) * 16)])
def test_stop_strings(stop, told):
    assert ask(stop=stop).stop == told


@pytest.mark.parametrize("seed", [-1, None])
def test_a_random_seed(seed):
    assert ask(seed=seed).sampling.seed is None


def test_seeds_are_cut_to_llama_cpps_32_bits():
    assert ask(seed=2**32 + 5).sampling.seed == 5
    assert ask(seed=-2).sampling.seed == 2**32 - 2


def test_template_variables():
    request = ask(
        chat_template_kwargs={"a": 1, "enable_thinking": True}, enable_thinking=False, reasoning_effort="low"
    )
    assert request.template_args == {"a": 1, "enable_thinking": False, "reasoning_effort": "low"}


def test_tools_are_carried_unless_forbidden():
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert ask(tools=tools).tools == tuple(tools)
    assert ask(tools=tools, tool_choice="auto").tools == tuple(tools)
    assert ask(tools=tools, tool_choice="none").tools == ()


def test_a_call_is_forced():
    tools = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
    named = {"type": "function", "function": {"name": "g"}}
    assert ask(tools=tools).forced is None
    assert [tool.name for tool in ask(tools=tools, tool_choice="required").forced] == ["f", "g"]
    assert [tool.name for tool in ask(tools=tools, tool_choice=named).forced] == ["g"]
    assert ask(tools=tools).parallel_calls
    assert not ask(tools=tools, parallel_tool_calls=False).parallel_calls
    allowed = {"mode": "auto", "tools": [named]}
    some = ask(tools=tools, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert some.tools == tuple(tools), "the template shows all: the prompt stays the same"
    assert ([tool.name for tool in some.offered], some.forced, some.restricted) == (["g"], None, True)
    assert refusal(tool_choice="required").param == "tool_choice"
    assert refusal(tools=tools, tool_choice="perhaps").param == "tool_choice"


def test_unknown_fields_are_ignored():
    assert ask(user="x", metadata={"a": 1}, service_tier="auto", store=True) == ask()


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"temperature": "hot"}, "temperature", "a number from 0 to 5"),
        ({"temperature": "0.5"}, "temperature", "a number from 0 to 5"),
        ({"temperature": True}, "temperature", "a number"),
        ({"temperature": -0.1}, "temperature", "a number"),
        ({"temperature": float("nan")}, "temperature", "a number"),
        ({"temperature": float("inf")}, "temperature", "a number"),
        ({"top_p": 1.1}, "top_p", "from 0 to 1"),
        ({"min_p": -1}, "min_p", "from 0 to 1"),
        ({"top_k": 1.5}, "top_k", "a whole number"),
        ({"repeat_penalty": 0}, "repeat_penalty", "above 0"),
        ({"frequency_penalty": 3}, "frequency_penalty", "from -2 to 2"),
        ({"seed": "x"}, "seed", "64 bits"),
        ({"seed": 2**63}, "seed", "64 bits"),
        ({"max_tokens": 0}, "max_tokens", "from 1"),
        ({"max_tokens": 10**30}, "max_tokens", "from 1"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens", "from 1"),
        ({"max_tokens": 3, "min_tokens": 4}, "min_tokens", "not be above max_tokens"),
        ({"stop": []}, "stop", "1 to 16 texts"),
        ({"stop": ""}, "stop", "none empty"),
        ({"stop": ["a", ""]}, "stop", "none empty"),
        ({"stop": ["a"] * 17}, "stop", "1 to 16 texts"),
        ({"stop": [1]}, "stop", "1 to 16 texts"),
        ({"stop": {"a": 1}}, "stop", "1 to 16 texts"),
        ({"logit_bias": {SECRET: "x"}}, "logit_bias", "token ids"),
        ({"logit_bias": [[SECRET * 20, 1]]}, "logit_bias", "token ids"),
        ({"logit_bias": {"1": True}}, "logit_bias", "token ids"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias", "token ids"),
        ({"samplers": ["top_k", SECRET]}, "samplers", "top_n_sigma"),
        ({"samplers": ["top_k", "top_k"]}, "samplers", "different"),
        ({"samplers": "kz"}, "samplers", "letters"),
        ({"samplers": []}, "samplers", "a list"),
        ({"typical_p": 0}, "typical_p", "above 0, at most 1"),
        ({"xtc_probability": 2}, "xtc_probability", "from 0 to 1"),
        ({"dry_base": 0.5}, "dry_base", "from 1 to 100"),
        ({"dry_allowed_length": -1}, "dry_allowed_length", "from 0"),
        ({"dry_sequence_breakers": [""]}, "dry_sequence_breakers", "64 texts"),
        ({"dry_sequence_breakers": ["a\0"]}, "dry_sequence_breakers", "NUL"),
        ({"mirostat": 3}, "mirostat", "1 or 2"),
        ({"repeat_last_n": -2}, "repeat_last_n", "whole context"),
        ({"n": 0}, "n", "from 1 to 16"),
        ({"n": 17}, "n", "from 1 to 16"),
        ({"n": True}, "n", "from 1 to 16"),
        ({"logprobs": 3}, "logprobs", "true or false"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
        ({"top_logprobs": 3}, "top_logprobs", "needs logprobs"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias", "token ids"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "-100 to 100"),
        ({"logit_bias": [1]}, "logit_bias", "an object"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": [1]}, "stream_options", "an object"),
        ({"ignore_eos": 1}, "ignore_eos", "true or false"),
        ({"tools": {"a": 1}}, "tools", "a list"),
        ({"enable_thinking": "no"}, "enable_thinking", "true or false"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs", "must not set messages"),
        ({"messages": None}, "messages", "one or more"),
        ({"messages": []}, "messages", "one or more"),
        ({"messages": SECRET}, "messages", "one or more"),
        ({"messages": [SECRET]}, "messages[0]", "{role, content}"),
        ({"messages": [{"role": "user"}]}, "messages[0]", "needs a content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0]", "needs a content"),
        ({"messages": [*HI, {"content": SECRET}]}, "messages[1].role", "one of system, "),
        ({"messages": [{"role": SECRET, "content": "a"}]}, "messages[0].role", "one of system, "),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "a text"),
        ({"messages": [{"role": "user", "content": {"text": SECRET}}]}, "messages[0].content", "a text"),
        ({"messages": [{"role": "user", "content": [SECRET]}]}, "messages[0].content", "parts like"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content", "parts like"),
        ({"messages": [{"role": "user", "content": [{"type": SECRET}]}]}, "messages[0].content", "parts like"),
        ({"messages": [{"role": "assistant", "tool_calls": [SECRET]}]}, "messages[0].tool_calls", "tool calls"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_what_is_allowed(fields, param, words):
    error = refusal(**fields)
    assert (error.code, error.param) == ("bad_request", param)
    assert error.message.startswith(param)
    assert words in error.message


def test_a_body_without_messages():
    with pytest.raises(BadRequestError, match="messages must be a list") as caught:
        parse_chat({"model": "m"})
    assert caught.value.param == "messages"


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video_url"])
def test_media_are_unsupported_content(kind):
    error = refusal(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": kind, kind: {}}]}])
    assert (error.code, error.param) == ("unsupported_content", "messages[0].content")
    assert "text only" in error.message


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_json": {"type": "object"}},
        {"modalities": ["text", "audio"]},
        {"functions": [{"name": "f"}]},
    ],
)
def test_what_is_not_built_yet_is_refused_by_name(fields):
    error = refusal(**fields)
    (name,) = fields
    assert (error.code, error.param) == ("unsupported_parameter", name)
    assert error.message.startswith(f"{name}: ")


def test_harmless_values_of_those_fields_are_fine():
    fine = {"n": 1, "logprobs": False, "top_logprobs": 0, "response_format": {"type": "text"}, "modalities": ["text"]}
    assert ask(**fine, tool_choice="none") == ask()


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert ask(messages=[{"role": "user", "content": parts}]).messages[0]["content"] == "a\nb"
    assert ask(messages=[{"role": "user", "content": ""}]).messages[0]["content"] == ""
    assert ask(messages=[{"role": "user", "content": []}]).messages[0]["content"] == ""


def test_an_assistant_that_calls_tools_needs_no_content():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    broken = {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{oops"}}
    messages = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call, broken]},
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
    ]
    _, assistant, tool = ask(messages=messages).messages
    assert assistant["content"] == ""
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert assistant["tool_calls"][1] == broken
    assert tool == {"role": "tool", "content": "7", "tool_call_id": "c1"}


def test_a_request_shows_no_content():
    request = ask(messages=[{"role": "user", "content": SECRET}], stop=SECRET)
    assert SECRET not in repr(request)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = (
    "messages",
    "temperature",
    "stop",
    "logit_bias",
    "seed",
    "max_tokens",
    "tools",
    "chat_template_kwargs",
    "n",
    "logprobs",
    "top_logprobs",
    "samplers",
    "tool_choice",
    "dry_sequence_breakers",
)


@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON))
def test_any_json_is_a_request_or_a_bad_request(body):
    try:
        assert isinstance(parse_chat({"messages": HI, **body}), ChatRequest)
    except BadRequestError as exc:
        assert exc.param  # noqa: PT017  # both outcomes are right, another exception is not
