"""How likely the prompt's own tokens are, told by the engine on a tiny model."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.worker.engine.conftest import StartEngine
from tests.worker.engine.harness import DEADLINE_S, GREEDY, Harness, Reply
from worker.engine.api import FinishReason, GenerationRequest, SamplingParams, TokenLogprob
from worker.engine.runner import NoRoomError
from worker.engine.scheduler import Plan
from worker.engine.sequence import Sequence

LONG = "The cat and the dog go to the sea, where a ship waits for nobody at all."
ASK: dict[str, Any] = {"logprobs": 2, "prompt_logprobs": True, "max_tokens": 3}


def run_ids(harness: Harness, ids: list[int], **fields: Any) -> Reply:
    name = f"ids-{len(harness.replies)}"
    harness.engine.submit(GenerationRequest(name, tuple(ids), **{"sampling": GREEDY, **fields}))
    return harness.wait(name)


def scores_of(reply: Reply) -> tuple[TokenLogprob, ...]:
    """Told once, before anything else."""
    assert [bool(piece.prompt_logprobs) for piece in reply.pieces] == [True] + [False] * (len(reply.pieces) - 1)
    return reply.pieces[0].prompt_logprobs


def one_by_one(harness: Harness, ids: list[int], at: int) -> TokenLogprob:
    """What the model says of the token at this place when it is asked for it as a reply."""
    forced = SamplingParams(temperature=0, logit_bias=((ids[at], 100.0),))
    return run_ids(harness, ids[:at], sampling=forced, ignore_eos=True, max_tokens=1, logprobs=2).logprobs[0]


def test_each_token_is_as_likely_as_it_is_as_a_reply(start_engine: StartEngine) -> None:
    harness = start_engine()
    ids = harness.model.tokenize(LONG)
    assert len(ids) > harness.engine._config.outputs, "it takes several steps"
    scores = scores_of(harness.run(LONG, **ASK))
    assert [entry.token for entry in scores] == ids[1:]
    for at in range(1, len(ids), 7):
        alone = one_by_one(harness, ids, at)
        assert scores[at - 1].logprob == pytest.approx(alone.logprob, abs=1e-3)
        assert dict(scores[at - 1].top) == pytest.approx(dict(alone.top), abs=1e-3)


def test_the_reply_is_the_same_and_a_cache_is_not_used(start_engine: StartEngine) -> None:
    harness = start_engine()
    plain, again = harness.run(LONG, max_tokens=8), harness.run(LONG, max_tokens=8)
    scored = harness.run(LONG, **{**ASK, "max_tokens": 8})
    assert scored.tokens == plain.tokens == again.tokens
    assert again.last.usage is not None
    assert again.last.usage.cached_tokens > 0
    assert scored.last.usage is not None
    assert scored.last.usage.cached_tokens == 0
    assert len(scores_of(scored)) == len(harness.model.tokenize(LONG)) - 1


@pytest.mark.parametrize("n", [1, 3])
def test_a_prompt_is_scored_for_its_own_sake(start_engine: StartEngine, n: int) -> None:
    harness = start_engine()
    reply = harness.run(LONG, **{**ASK, "max_tokens": 0, "n": n})
    assert sum(len(piece.prompt_logprobs) for piece in reply.pieces) == len(harness.model.tokenize(LONG)) - 1
    assert [reply.choices[index].finish for index in range(n)] == [FinishReason.LENGTH] * n
    assert (reply.tokens, reply.text) == ([], "")
    assert harness.run(LONG, max_tokens=5).tokens, "the engine goes on"


def test_several_choices_share_one_scored_prompt(start_engine: StartEngine) -> None:
    reply = start_engine().run(LONG, **{**ASK, "n": 3})
    assert scores_of(reply)
    assert [len(reply.choices[index].tokens) for index in range(3)] == [3, 3, 3]


def test_one_token_has_nothing_before_it(start_engine: StartEngine) -> None:
    harness = start_engine()
    reply = run_ids(harness, harness.model.tokenize(LONG)[:1], **ASK)
    assert not any(piece.prompt_logprobs for piece in reply.pieces)
    assert len(reply.tokens) == 3


@pytest.mark.parametrize("n_batch", [5, 64])
def test_beside_others_in_any_batch(start_engine: StartEngine, n_batch: int) -> None:
    alone = start_engine().run(LONG, **ASK)
    harness = start_engine(n_batch=n_batch, n_ubatch=n_batch)
    for name in ("a", "b", "c"):
        harness.submit(name, LONG, **ASK)
        harness.submit(f"plain-{name}", "The cat", max_tokens=30)
    plain = start_engine().run("The cat", max_tokens=30)
    for name in ("a", "b", "c"):
        reply = harness.wait(name)
        assert [entry.token for entry in scores_of(reply)] == [entry.token for entry in scores_of(alone)]
        for mine, theirs in zip(scores_of(reply), scores_of(alone), strict=True):
            assert mine.logprob == pytest.approx(theirs.logprob, abs=0.02), "but for the arithmetic of other batches"
        assert reply.tokens == alone.tokens
        assert harness.wait(f"plain-{name}").tokens == plain.tokens


def test_who_loses_its_cells_half_way_is_scored_once(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = start_engine().run(LONG, **ASK)
    harness = start_engine(n_batch=8, n_ubatch=8)
    run, preempt = harness.engine._core.runner.run, harness.engine._core._scheduler._preempt
    refusals, half_way, both = [3, 6], [], threading.Event()

    def full(plan: Plan) -> object:
        assert both.wait(DEADLINE_S)
        if any(seq.prompt_scores is not None for seq, _ in plan.prefill):
            refusals[:] = [left - 1 for left in refusals if left > 0]
            if 0 in refusals:
                raise NoRoomError
        return run(plan)

    def noted(seq: Sequence) -> None:
        half_way.append(seq.prompt_scores is not None and bool(seq.prompt_scores.made))
        preempt(seq)

    monkeypatch.setattr(harness.engine._core.runner, "run", full)
    monkeypatch.setattr(harness.engine._core._scheduler, "_preempt", noted)
    harness.submit("older", "The cat", max_tokens=60, ignore_eos=True)
    harness.submit("scored", LONG, **ASK)
    both.set()
    reply = harness.wait("scored")
    assert any(half_way), "it was sent back with half its prompt's scores"
    for mine, theirs in zip(scores_of(reply), scores_of(alone), strict=True):
        assert (mine.token, mine.logprob) == (theirs.token, pytest.approx(theirs.logprob, abs=0.02))
    assert reply.tokens == alone.tokens


def test_a_cancel_while_it_is_scored(start_engine: StartEngine) -> None:
    harness = start_engine(n_batch=5, n_ubatch=5)
    harness.submit("gone", LONG * 3, **{**ASK, "n": 2, "max_tokens": 0})
    harness.engine.cancel("gone")
    assert harness.wait("gone").last.usage is not None
    assert harness.run(LONG, **ASK).tokens
