"""Several choices and log probabilities through the whole backend, streamed, whole and resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tasks.contract import Resume
from tests.fakes.backend_parts import chat
from tests.worker.backends.tiny_chat import run, shown, tiny_backend, tokens, whole
from worker.backends.llama import LlamaBackend

ASK = {"seed": 7, "temperature": 1, "max_tokens": 12}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaBackend]:
    with tiny_backend(tmp_path_factory.mktemp("tiny"), "<think>", "</think>") as backend:
        yield backend


def texts(choices: list[dict[str, Any]], count: int) -> list[str]:
    said = [""] * count
    for choice in choices:
        said[choice["index"]] += choice["delta"].get("content") or ""
    return said


def test_choices_are_numbered_and_counted(tiny):
    body = whole(run(tiny, chat(stream=False, n=3, **ASK)))
    made = ChatCompletion.model_validate(body)
    assert [choice.index for choice in made.choices] == [0, 1, 2]
    said = [choice.message.content for choice in made.choices]
    assert len(set(said)) == 3
    alone = [whole(run(tiny, chat(stream=False, **{**ASK, "seed": 7 + k})))["choices"][0] for k in range(3)]
    assert said == [choice["message"]["content"] for choice in alone]
    assert made.usage is not None
    assert made.usage.completion_tokens == 36
    assert made.usage.prompt_tokens == body["usage"]["total_tokens"] - 36


def test_streamed_choices_add_up_to_whole_ones(tiny):
    asked = {**ASK, "n": 3, "logprobs": True, "top_logprobs": 2}
    body = whole(run(tiny, chat(stream=False, **asked)))
    chunks = run(tiny, chat(**asked)).chunks
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk.data)
    assert texts(shown(chunks), 3) == [choice["message"]["content"] for choice in body["choices"]]
    roles = [choice["index"] for choice in shown(chunks) if "role" in choice["delta"]]
    ends = [choice["index"] for choice in shown(chunks) if choice["finish_reason"]]
    assert (roles, sorted(ends)) == ([0, 1, 2], [0, 1, 2])
    assert [json.loads(chunk.data).get("usage") for chunk in chunks if '"usage"' in chunk.data] == [body["usage"]]
    for index in range(3):
        scores = [c["logprobs"] for c in shown(chunks) if c["index"] == index and c["logprobs"]]
        streamed = [entry for score in scores for entry in score["content"]]
        assert streamed == body["choices"][index]["logprobs"]["content"]
        assert {len(entry["top_logprobs"]) for entry in streamed} == {2}


@pytest.mark.parametrize("n", [1, 3])
def test_log_probabilities_spell_the_text(tiny, n):
    body = whole(run(tiny, chat(stream=False, n=n, logprobs=True, **ASK)))
    for choice in body["choices"]:
        entries = choice["logprobs"]["content"]
        spelled = b"".join(bytes(entry["bytes"]) for entry in entries)
        assert spelled.decode("utf-8", "replace") == choice["message"]["content"]
        assert all(entry["logprob"] <= 0 for entry in entries)
        assert all(entry["top_logprobs"] == [] for entry in entries)


def test_without_asking_there_are_none(tiny):
    assert whole(run(tiny, chat(stream=False, **ASK)))["choices"][0]["logprobs"] is None


def rounded(choice: dict[str, Any]) -> dict[str, Any]:
    """A prompt that is evaluated in other batches gives the same probabilities but for the last digits."""
    return dict(json.loads(json.dumps(choice), parse_float=lambda digits: round(float(digits), 3)))


@pytest.mark.parametrize("fields", [{}, {"logprobs": True, "top_logprobs": 1}, {"stop": ["e", "on"]}])
def test_several_choices_go_on_after_any_chunk(tiny, fields):
    """Each one's text, probabilities, end: nothing twice, nothing missing."""
    asked = {**ASK, "n": 3, "max_tokens": 6, **fields}
    full = run(tiny, chat(**asked)).chunks
    for cut in range(3, len(full) - 1):
        resume = Resume(token_ids=tokens(full[:cut]))
        rest = run(tiny, chat(attempt=1, resume=resume, **asked)).chunks
        for index in range(3):
            before = [rounded(c) for c in shown(full[cut:]) if c["index"] == index]
            after = [rounded(c) for c in shown(rest) if c["index"] == index]
            assert after == before, f"choice {index}, cut after chunk {cut}"
        assert sorted(tokens(rest)) == sorted(tokens(full[cut:]))
        assert rest[-1].data == full[-1].data or "cached_tokens" in rest[-1].data


def test_a_bias_may_name_a_text(tiny):
    body = whole(run(tiny, chat(stream=False, temperature=0, max_tokens=5, logit_bias=[["q", 100]])))
    assert body["choices"][0]["message"]["content"] == "qqqqq"
    again = run(tiny, chat(stream=False, temperature=0, max_tokens=5, logit_bias={"q": 100}, samplers=["top_k"]))
    assert whole(again)["choices"][0]["message"]["content"] == "qqqqq"
