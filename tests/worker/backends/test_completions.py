"""Legacy completions through the whole backend on a tiny random model."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openai.types import Completion

from tasks.contract import Job, JobKind, Resume
from tasks.errors import BadRequestError
from tests.fakes.backend_parts import RecordingReply, chat
from tests.worker.backends.tiny_chat import run, shown, tiny_backend, tokens, whole
from worker.backends.llama import LlamaBackend

ASK = {"prompt": "The sea and", "seed": 3, "temperature": 1, "max_tokens": 8}
MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
FIRST_MARK = 5 + 256


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaBackend]:
    with tiny_backend(tmp_path_factory.mktemp("tiny")) as backend:
        yield backend


def job(**fields: Any) -> Job:
    return chat(kind=JobKind.COMPLETION, messages=None, **{**ASK, **fields})


def made(backend: LlamaBackend, **fields: Any) -> Completion:
    return Completion.model_validate(whole(run(backend, job(stream=False, **fields))))


def texts(reply: RecordingReply, count: int = 1) -> list[str]:
    said = [""] * count
    for choice in shown(reply.chunks):
        said[choice["index"]] += choice["text"]
    return said


def test_a_prompt_is_continued(tiny):
    body = whole(run(tiny, job(stream=False)))
    (choice,) = body["choices"]
    assert (body["object"], body["id"], choice["finish_reason"]) == ("text_completion", "cmpl-j1", "length")
    assert body["usage"]["completion_tokens"] == 8
    assert texts(run(tiny, job())) == [choice["text"]]


def test_token_ids_are_taken_as_they_are(tiny):
    model: Any = tiny._model
    ids = model.tokenize("The sea and")
    assert made(tiny, prompt=ids).choices[0].text == made(tiny).choices[0].text
    with pytest.raises(BadRequestError, match="outside this model's") as caught:
        run(tiny, job(prompt=[10**6]))
    assert caught.value.param == "prompt"


def test_several_prompts_with_several_replies(tiny):
    prompts = ["The sea and", "A ship in"]
    got = made(tiny, prompt=prompts, n=2)
    alone = [made(tiny, prompt=prompt, n=2) for prompt in prompts]
    assert [choice.index for choice in got.choices] == [0, 1, 2, 3]
    assert [c.text for c in got.choices] == [c.text for one in alone for c in one.choices]
    assert got.usage is not None
    assert got.usage.completion_tokens == 32
    assert got.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in alone if one.usage)
    reply = run(tiny, job(prompt=prompts, n=2))
    assert texts(reply, 4) == [choice.text for choice in got.choices]
    assert [chunk for chunk in reply.chunks if '"usage"' in chunk.data] == [reply.chunks[-1]]


def test_echo(tiny):
    plain = made(tiny).choices[0].text
    assert made(tiny, echo=True).choices[0].text == "The sea and" + plain
    assert texts(run(tiny, job(echo=True))) == ["The sea and" + plain]
    assert made(tiny, echo=True, max_tokens=0).choices[0].text == "The sea and"


@pytest.mark.parametrize("more", [{}, {"logprobs": 2}, {"echo": True}, {"stop": ["e"]}])
def test_the_likeliest_of_more_replies(tiny, more):
    prompts = ["The sea and", "A ship in"]
    asked = {"prompt": prompts, "max_tokens": 6, **more}
    every = made(tiny, n=4, **{**asked, "logprobs": 2, "echo": False})
    got = made(tiny, n=2, best_of=4, **asked)
    means = [statistics.fmean(c.logprobs.token_logprobs or [-1e9]) for c in every.choices]  # type: ignore[union-attr]
    expected = []
    for first in (0, 4):
        ranked = sorted(range(first, first + 4), key=lambda index: -means[index])
        echo = prompts[first // 4] if "echo" in more else ""
        expected += [echo + every.choices[index].text for index in ranked[:2]]
    assert [choice.text for choice in got.choices] == expected
    assert [choice.index for choice in got.choices] == [0, 1, 2, 3]
    assert [choice.logprobs is not None for choice in got.choices] == ["logprobs" in more] * 4
    assert (got.usage, every.usage) != (None, None)
    assert got.usage.completion_tokens == every.usage.completion_tokens  # type: ignore[union-attr]
    assert got.usage.prompt_tokens == every.usage.prompt_tokens  # type: ignore[union-attr]


def test_replies_that_share_a_prompt_evaluate_it_once(tiny):
    prepared = tiny._preparers[JobKind.COMPLETION].prepare(job(best_of=3, stream=False), 500)
    assert [request.n for request in prepared.requests] == [3]


def test_a_reply_to_choose_from_begins_anew_elsewhere(tiny):
    """Nothing of it was delivered, whatever an earlier attempt had made."""
    asked = {"best_of": 3, "stream": False}
    again = run(tiny, job(attempt=1, resume=Resume(token_ids=()), **asked))
    assert whole(again)["choices"] == whole(run(tiny, job(**asked)))["choices"]


def test_log_probabilities(tiny):
    choice = made(tiny, logprobs=2).choices[0]
    logprobs = choice.logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or ()) == choice.text
    assert [choice.text[at : at + 1] for at in logprobs.text_offset or ()] == [t[0] for t in logprobs.tokens or ()]
    assert all(len(top) in (2, 3) for top in logprobs.top_logprobs or ())
    parts = [c["logprobs"] for c in shown(run(tiny, job(logprobs=2)).chunks) if c["logprobs"]]
    assert [offset for part in parts for offset in part["text_offset"]] == logprobs.text_offset


@pytest.mark.parametrize("fields", [{}, {"max_tokens": 0}, {"n": 2}, {"best_of": 3, "n": 2}])
def test_the_prompts_log_probabilities(tiny, fields):
    plain = made(tiny, **{"logprobs": 2, **fields})
    got = made(tiny, **{"logprobs": 2, **fields}, echo=True)
    prompt: str = ASK["prompt"]  # type: ignore[assignment]
    for choice, own in zip(got.choices, plain.choices, strict=True):
        assert choice.text == prompt + own.text
        logprobs = choice.logprobs
        assert logprobs is not None
        assert own.logprobs is not None
        assert "".join(logprobs.tokens or ()) == choice.text
        starts = [choice.text[at : at + 1] for at in logprobs.text_offset or ()]
        assert starts == [token[0] for token in logprobs.tokens or ()]
        scores, tops = logprobs.token_logprobs or [], logprobs.top_logprobs or []
        assert len(scores) == len(tops) == len(logprobs.tokens or ())
        assert all(score < 0 for score in scores), "the first follows the BOS that the model was given"
        assert scores[len(scores) - len(own.logprobs.token_logprobs or ()) :] == pytest.approx(
            own.logprobs.token_logprobs, abs=1e-3
        )
        assert all(tops)
    assert got.usage is not None
    assert plain.usage is not None
    assert got.usage.completion_tokens == plain.usage.completion_tokens


def test_a_first_token_with_nothing_before_it_has_no_log_probability(tiny):
    ids = tiny._model.tokenize("The sea and", add_special=False)
    for length in (1, len(ids)):
        asked = {"prompt": ids[:length], "echo": True, "logprobs": 1, "max_tokens": 0, "stream": False}
        logprobs = whole(run(tiny, job(**asked)))["choices"][0]["logprobs"]  # the SDK's types know no null here
        assert len(logprobs["tokens"]) == length
        scores, tops = logprobs["token_logprobs"], logprobs["top_logprobs"]
        assert (scores[0], tops[0]) == (None, None)
        assert None not in scores[1:]


def test_each_prompt_has_its_own_log_probabilities(tiny):
    prompts = ["The sea and", "A ship in the"]
    both = made(tiny, prompt=prompts, echo=True, logprobs=1, n=2)
    for index, choice in enumerate(both.choices):
        alone = made(tiny, prompt=prompts[index // 2], echo=True, logprobs=1, n=2).choices[index % 2]
        assert choice.text == alone.text
        assert choice.logprobs is not None
        assert alone.logprobs is not None
        assert choice.logprobs.token_logprobs == pytest.approx(alone.logprobs.token_logprobs, abs=1e-3)


@pytest.mark.parametrize("fields", [{}, {"n": 2, "echo": True}, {"prompt": ["a", "b"], "n": 2}, {"stop": ["e", "n"]}])
def test_a_reply_goes_on_after_any_chunk(tiny, fields):
    full = run(tiny, job(**fields)).chunks
    skip = 2 if "echo" in fields else 0
    for cut in range(skip + 1, len(full) - 1):
        rest = run(tiny, job(attempt=1, resume=Resume(token_ids=tokens(full[:cut])), **fields)).chunks
        for index in range(4):
            before = [c for c in shown(full[cut:]) if c["index"] == index]
            assert [c for c in shown(rest) if c["index"] == index] == before, f"choice {index}, cut {cut}"


def test_a_grammar_and_a_schema(tiny):
    assert set(made(tiny, grammar='root ::= "a"+ "b"', max_tokens=300).choices[0].text) == {"a", "b"}
    schema = {"enum": ["x", "y"]}
    got = made(tiny, prompt=["a", "b"], json_schema=schema, max_tokens=50)
    for choice in got.choices:
        jsonschema.validate(json.loads(choice.text), schema)


def test_a_suffix_needs_a_model_that_fills_in(tiny, tmp_path):
    with pytest.raises(BadRequestError, match="filling in the middle") as caught:
        run(tiny, job(suffix="the end"))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "suffix")
    with tiny_backend(tmp_path, *MARKS) as backend:
        prepared = backend._preparers[JobKind.COMPLETION].prepare(job(suffix=" end"), 100).requests[0]
        model: Any = backend._model
        names = [model.vocab.text_of(token) for token in prepared.prompt]
        assert "".join(names).replace("▁", " ") == "<s><|fim_prefix|>The sea and<|fim_suffix|> end<|fim_middle|>"
        assert len(texts(run(backend, job(suffix=" end")))[0]) > 0


def test_a_bad_field_of_a_later_prompt_stops_all(tiny):
    with pytest.raises(BadRequestError, match="outside this model's"):
        run(tiny, job(prompt=["fine", [10**6]], max_tokens=200, job_id="j2"))
    assert made(tiny).choices[0].text
