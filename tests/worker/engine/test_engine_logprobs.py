"""Log probabilities, and control tokens as text."""

from __future__ import annotations

import math

import pytest

from tasks.errors import BadRequestError
from tests.fakes import tiny_llama
from tests.worker.engine.conftest import StartEngine
from tests.worker.engine.harness import GREEDY, Reply
from worker.engine.api import FinishReason, SamplingParams

PROMPT = "The cat and the dog"


def test_nobody_pays_who_does_not_ask(start_engine: StartEngine) -> None:
    assert start_engine().run(PROMPT).logprobs == []


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=1.0, seed=1)])
def test_each_token_has_its_score_and_the_text_is_the_same(
    start_engine: StartEngine, sampling: SamplingParams
) -> None:
    harness = start_engine()
    without, asked = (harness.run(PROMPT, sampling=sampling, logprobs=n) for n in (None, 3))
    assert asked.tokens == without.tokens
    assert [entry.token for entry in asked.logprobs] == asked.tokens
    for entry in asked.logprobs:
        assert entry.logprob <= entry.top[0][1] <= 0
        assert sum(math.exp(value) for _, value in entry.top) <= 1 + 1e-6
        assert len(entry.top) == 3
        if sampling is GREEDY:
            assert entry.top[0] == (entry.token, entry.logprob)


def test_biases_and_forbidden_ends_do_not_change_the_models_own_distribution(start_engine: StartEngine) -> None:
    harness = start_engine()
    free = harness.run(PROMPT, logprobs=2, max_tokens=1)
    word = free.tokens[0]
    forced = SamplingParams(temperature=0, logit_bias=((word + 1, 100.0),))
    biased = harness.run(PROMPT, logprobs=2, max_tokens=1, sampling=forced, ignore_eos=True)
    assert biased.tokens == [word + 1]
    assert dict(biased.logprobs[0].top) == pytest.approx(dict(free.logprobs[0].top), abs=1e-4)
    assert biased.logprobs[0].logprob < free.logprobs[0].logprob


def shown(reply: Reply) -> str:
    return "".join(piece.text for piece in reply.pieces)


def test_what_is_held_back_comes_with_its_text_and_a_stop_string_has_no_scores(start_engine: StartEngine) -> None:
    harness = start_engine()
    free = harness.run(PROMPT, max_tokens=40, logprobs=0)
    stop = free.text[10:16]
    reply = harness.run(PROMPT, max_tokens=40, stop=(stop,), logprobs=0)
    pieces = [harness.model.piece(entry.token).decode() for entry in reply.logprobs]
    assert "".join(pieces) == reply.text
    assert [entry.token for entry in reply.logprobs] == free.tokens[: len(pieces)]
    assert len(reply.tokens) > len(reply.logprobs)
    for piece in reply.pieces[:-1]:
        assert bool(piece.text) == bool(piece.logprobs)


def test_an_end_token_has_no_score(start_engine: StartEngine) -> None:
    ending = SamplingParams(temperature=0, logit_bias=((tiny_llama.IM_END, 100.0),))
    reply = start_engine().run(PROMPT, sampling=ending, min_tokens=2, logprobs=1)
    assert (len(reply.tokens), len(reply.logprobs)) == (3, 2)


def test_how_many_alternatives_there_can_be(start_engine: StartEngine) -> None:
    with pytest.raises(BadRequestError, match="0 to 20"):
        start_engine().submit("r", PROMPT, logprobs=21)


IM_START = SamplingParams(temperature=0, logit_bias=((tiny_llama.IM_START, 100.0),))


@pytest.mark.parametrize(
    ("special", "text"),
    [
        (False, ""),
        (True, "<|im_start|>" * 3),
        (frozenset({tiny_llama.IM_START}), "<|im_start|>" * 3),
        (frozenset({tiny_llama.BOS}), ""),
    ],
)
def test_control_tokens_are_shown_when_asked(
    start_engine: StartEngine,
    special: bool | frozenset[int],  # noqa: FBT001  # as in the request
    text: str,
) -> None:
    reply = start_engine().run(PROMPT, sampling=IM_START, max_tokens=3, special=special)
    assert reply.text == text
    assert reply.tokens == [tiny_llama.IM_START] * 3


def test_end_tokens_are_never_shown(start_engine: StartEngine) -> None:
    ending = SamplingParams(temperature=0, logit_bias=((tiny_llama.IM_END, 100.0),))
    reply = start_engine().run(PROMPT, sampling=ending, special=True)
    assert (reply.finish, reply.text) == (FinishReason.STOP, "")


def test_a_shown_control_token_can_be_a_stop_string(start_engine: StartEngine) -> None:
    reply = start_engine().run(PROMPT, sampling=IM_START, special=True, stop=("<|im_start|>",))
    assert (reply.finish, reply.text, reply.tokens) == (FinishReason.STOP, "", [tiny_llama.IM_START])
