"""The same text with and without guesses, whoever else runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.engine.conftest import StartEngine
from tests.worker.engine.harness import GREEDY, Harness
from tests.worker.engine.test_engine_masks import Cycle
from worker.engine.api import FinishReason, SamplingParams

LOOP = "one two three four five six " * 4
PROMPTS = [LOOP + name for name in ("one", "two", "three")]
SEEDED = SamplingParams(temperature=0.6, seed=2)


class Free:
    """More tokens cost nothing: whatever can be guessed is tried."""

    def note(self, rows: int, seconds: float) -> None:
        pass

    def ratio(self, rows: int, more: int) -> float:
        return 0.01


def eager(harness: Harness) -> Harness:
    harness.engine._core._speculator._costs = Free()
    return harness


FIELDS = [
    {"sampling": GREEDY},
    {"sampling": SEEDED},
    {"sampling": SamplingParams(temperature=0, repeat_penalty=1.05), "min_tokens": 30},
    {"sampling": GREEDY, "stop": ("e ", "ur")},
    {"sampling": GREEDY, "logprobs": 2},
    {"sampling": GREEDY, "max_tokens": 17},
]


@pytest.mark.parametrize("fields", FIELDS)
def test_alone(start_engine: StartEngine, fields: dict[str, object]) -> None:
    asked = {"max_tokens": 120, **fields}
    plain = start_engine(speculation=False).run(LOOP, **asked)
    harness = eager(start_engine())
    reply = harness.run(LOOP, **asked)
    assert (reply.tokens, reply.text, reply.finish) == (plain.tokens, plain.text, plain.finish)
    assert [entry.token for entry in reply.logprobs] == [entry.token for entry in plain.logprobs]
    assert reply.last.usage == plain.last.usage


@pytest.mark.parametrize("unified", [True, False])
def test_together(start_engine: StartEngine, unified: bool) -> None:  # noqa: FBT001  # a parameter
    plain = start_engine(speculation=False)
    alone = [plain.run(prompt, max_tokens=60, cache_prompt=False).tokens for prompt in PROMPTS]
    harness = eager(start_engine(kv_unified=unified))
    for name, prompt in enumerate(PROMPTS):
        harness.submit(str(name), prompt, max_tokens=60)
    assert [harness.wait(str(name)).tokens for name in range(3)] == alone
    assert harness.engine.stats().drafted_tokens > 0
    again = harness.run(PROMPTS[0], max_tokens=60)
    assert again.tokens == alone[0], "refused guesses are not left in the cache"


def test_right_guesses_save_steps(start_engine: StartEngine) -> None:
    harness = eager(start_engine())
    echo = SamplingParams(temperature=0, logit_bias=((300, 50.0),))
    reply = harness.run("Hello", sampling=echo, max_tokens=100)
    assert reply.tokens == [300] * 100
    stats = harness.engine.stats()
    assert stats.accepted_tokens > 60
    assert stats.steps < 40
    assert stats.completion_tokens == 100


@pytest.mark.parametrize("length", range(40, 52))
def test_a_grammar_ends_where_it_ends(start_engine: StartEngine, length: int) -> None:
    harness = eager(start_engine())
    reply = harness.run("Hello", masker=Cycle(length), max_tokens=None)
    assert reply.tokens == [Cycle(length, at=at).expected for at in range(length)]
    assert harness.engine.stats().accepted_tokens > 10


def test_off_by_request(start_engine: StartEngine) -> None:
    harness = eager(start_engine())
    harness.run(LOOP, speculate=False, max_tokens=60)
    assert harness.engine.stats().drafted_tokens == 0


def test_cancel_and_go_on(start_engine: StartEngine) -> None:
    harness = eager(start_engine(slots=1, ctx_per_seq=2000))
    echo = SamplingParams(temperature=0, logit_bias=((300, 50.0),))
    under_way = harness.stop_at("endless", lambda reply: len(reply.tokens) > 30)
    harness.submit("endless", "Hello", sampling=echo, max_tokens=None)
    with under_way:
        harness.engine.cancel("endless")
    assert harness.wait("endless").finish is FinishReason.CANCELLED
    assert harness.run("Hello").finish is FinishReason.LENGTH


def test_hybrid_models_do_without(tiny_path: Path, start_engine: StartEngine) -> None:
    from worker.engine.model import LoadedModel

    with LoadedModel(tiny_path, n_gpu_layers=0) as model:
        model.can_rewind = False
        harness = eager(start_engine(model))
        harness.run(LOOP, max_tokens=60)
        assert harness.engine.stats().drafted_tokens == 0
        harness.close()
