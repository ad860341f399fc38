"""Every field of a completion request: what is taken, what is refused, and that no error quotes what was sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import BadRequestError
from worker.completion.request import DEFAULT_MAX_TOKENS, CompletionRequest, parse_completion

SECRET = "xyzzy-the-patient"


def ask(**fields: object) -> CompletionRequest:
    return parse_completion({"model": "m", "prompt": "hi", **fields})


def test_the_least_request():
    assert ask() == CompletionRequest(("hi",), max_tokens=DEFAULT_MAX_TOKENS)


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        ([[1], "b"], ((1,), "b")),
        ("", ("",)),
    ],
)
def test_prompts(prompt, read):
    assert ask(prompt=prompt).prompts == read


def test_the_other_fields_arrive():
    asked = ask(suffix="!", max_tokens=-1, n=2, best_of=2, logprobs=3, stop="x", temperature=0, stream=True)
    assert (asked.suffix, asked.max_tokens, asked.n, asked.logprobs) == ("!", None, 2, 3)
    assert (asked.stop, asked.sampling.temperature, asked.stream) == (("x",), 0.0, True)
    assert ask(max_tokens=0, echo=True).max_tokens == 0


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": None}, "prompt", "a text"),
        ({"prompt": []}, "prompt", "a text"),
        ({"prompt": [[]]}, "prompt", "token ids"),
        ({"prompt": [-1]}, "prompt", "token ids"),
        ({"prompt": [1, SECRET]}, "prompt", "token ids"),
        ({"prompt": [True]}, "prompt", "token ids"),
        ({"prompt": {"a": SECRET}}, "prompt", "token ids"),
        ({"prompt": ["x"] * 65}, "prompt", "1 to 64"),
        ({"prompt": ["x"] * 64, "n": 3}, "n", "at most 128"),
        ({"max_tokens": -2}, "max_tokens", "-1 = until"),
        ({"logprobs": True}, "logprobs", "from 0 to 20"),
        ({"logprobs": 21}, "logprobs", "from 0 to 20"),
        ({"best_of": 17}, "best_of", "1 to 16"),
        ({"best_of": 2, "n": 3}, "best_of", "below n"),
        ({"best_of": 3, "n": 2, "stream": True}, "best_of", "streamed"),
        ({"best_of": 3, "prompt": ["a"] * 43}, "best_of", "at most 128"),
        ({"echo": 1}, "echo", "true or false"),
        ({"echo": True, "suffix": "x"}, "echo", "suffix"),
        ({"echo": True, "logprobs": 1, "stream": True}, "logprobs", "streamed"),
        ({"suffix": 3}, "suffix", "a text"),
        ({"temperature": 9}, "temperature", "from 0 to 5"),
        ({"min_tokens": 17}, "min_tokens", "max_tokens"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(fields, param, words):
    with pytest.raises(BadRequestError) as caught:
        ask(**fields)
    assert (caught.value.code, caught.value.param) == ("bad_request", param)
    assert words in caught.value.message
    assert SECRET not in caught.value.message


@pytest.mark.parametrize("fields", [{"tools": [{}]}, {"messages": [{}]}, {"prompt_embeds": "x"}])
def test_what_is_not_a_completions_is_refused_by_name(fields):
    with pytest.raises(BadRequestError) as caught:
        ask(**fields)
    assert (caught.value.code, [caught.value.param]) == ("unsupported_parameter", list(fields))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["prompt", "suffix", "echo", "n", "best_of", "logprobs", "max_tokens"]), _JSON)
)
def test_any_json_is_a_request_or_a_bad_request(body):
    try:
        assert isinstance(parse_completion({"prompt": "a", **body}), CompletionRequest)
    except BadRequestError as exc:
        assert exc.param  # noqa: PT017  # both outcomes are right, another exception is not
