from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import BadRequestError
from worker.engine.api import GenerationRequest, SamplingParams
from worker.engine.model import LoadedModel
from worker.engine.sampling import Candidates, Sampler, StepSampler, check_params
from worker.engine.sequence import Sequence


class Chooser:
    """A sampler on rows a test makes up."""

    def __init__(self, model: LoadedModel, params: SamplingParams, *, narrow: bool = True) -> None:
        self.candidates = Candidates(model.n_vocab)
        self.sampler = Sampler(params, model.vocab, ctx_limit=100)
        if not narrow:
            self.sampler._enough = 0

    def __call__(self, row: np.ndarray) -> int:
        return self.sampler.choose(row, self.candidates)

    def many(self, rows: np.ndarray) -> list[int]:
        try:
            return [self(row) for row in rows]
        finally:
            self.sampler.free()


@pytest.fixture
def rows(tiny: LoadedModel) -> np.ndarray:
    return make_rows(tiny.n_vocab, seed=1)


def make_rows(n_vocab: int, seed: int, count: int = 20, spread: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((count, n_vocab)) * spread).astype(np.float32)


penalised = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.7, 1.5]),
        "top_k": st.sampled_from([0, 1, 5, 40, 5000]),
        "top_p": st.sampled_from([0.5, 0.95, 1.0]),
        "min_p": st.sampled_from([0.0, 0.05]),
        "repeat_penalty": st.sampled_from([0.8, 1.0, 1.3]),
        "repeat_last_n": st.sampled_from([-1, 0, 3, 64]),
        "frequency_penalty": st.sampled_from([-0.5, 0.0, 1.0]),
        "presence_penalty": st.sampled_from([0.0, 0.5]),
        "logit_bias": st.lists(
            st.tuples(st.integers(0, 373), st.sampled_from([-100.0, -1.0, 3.0, 100.0])), max_size=4
        ).map(tuple),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(fields=penalised, seed=st.integers(0, 1000), spread=st.sampled_from([0.3, 3.0, 10.0]))
def test_narrowing_changes_no_choice(tiny: LoadedModel, fields: dict[str, object], seed: int, spread: float) -> None:
    params = SamplingParams(**fields, seed=seed)
    rows = make_rows(tiny.n_vocab, seed, spread=spread)
    assert Chooser(tiny, params).many(rows) == Chooser(tiny, params, narrow=False).many(rows)


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(tiny: LoadedModel, rows: np.ndarray) -> None:
    one, two, other = (Chooser(tiny, SamplingParams(temperature=2, seed=seed)).many(rows) for seed in (5, 5, 6))
    assert one == two != other


def test_without_a_seed_every_request_is_its_own(tiny: LoadedModel, rows: np.ndarray) -> None:
    one, other = (Chooser(tiny, SamplingParams(temperature=2)).many(rows) for _ in range(2))
    assert one != other


def test_temperature_0_takes_the_most_likely(tiny: LoadedModel, rows: np.ndarray) -> None:
    assert Chooser(tiny, SamplingParams(temperature=0)).many(rows) == rows.argmax(axis=1).tolist()


def test_a_penalty_turns_away_from_what_was_said(tiny: LoadedModel, rows: np.ndarray) -> None:
    same = np.repeat(rows[:1], 4, axis=0)
    chosen = Chooser(tiny, SamplingParams(temperature=0, presence_penalty=2, repeat_penalty=3)).many(same)
    assert len(set(chosen)) == 4


def test_the_prompt_counts_for_penalties(tiny: LoadedModel, rows: np.ndarray) -> None:
    chooser = Chooser(tiny, SamplingParams(temperature=0, repeat_penalty=5))
    best = int(rows[0].argmax())
    chooser.sampler.restore([best], [], chooser.candidates)
    assert chooser.many(rows[:1]) != [best]


def test_logit_bias_forces_and_forbids(tiny: LoadedModel, rows: np.ndarray) -> None:
    best = rows.argmax(axis=1)
    forced = Chooser(tiny, SamplingParams(temperature=0, logit_bias=((17, 100.0),))).many(rows)
    banned = Chooser(tiny, SamplingParams(temperature=0, logit_bias=((int(best[0]), -100.0),))).many(rows)
    assert set(forced) == {17}
    assert banned[0] != best[0]


def test_a_restored_sampler_draws_what_the_first_one_would_have_drawn(tiny: LoadedModel, rows: np.ndarray) -> None:
    params = SamplingParams(temperature=2, seed=3, repeat_penalty=1.2)
    whole = Chooser(tiny, params).many(rows)
    second = Chooser(tiny, params)
    second.sampler.restore([], whole[:8], second.candidates)
    assert second.many(rows[8:]) == whole[8:]


def test_free_is_idempotent(tiny: LoadedModel) -> None:
    sampler = Sampler(SamplingParams(), tiny.vocab, ctx_limit=10)
    sampler.free()
    sampler.free()


def sequences(model: LoadedModel, *requests: dict[str, object]) -> list[Sequence]:
    made = []
    for number, fields in enumerate(requests):
        request = GenerationRequest(str(number), (1,), **fields)
        seq = Sequence(request, ctx_limit=100, now=0)
        seq.sampler = Sampler(request.sampling, model.vocab, ctx_limit=100)
        made.append(seq)
    return made


@pytest.mark.parametrize("other", [SamplingParams(temperature=0), SamplingParams(temperature=1, top_k=1)])
def test_a_step_forbids_endings_only_where_they_are_banned(tiny: LoadedModel, other: SamplingParams) -> None:
    rows = np.zeros((3, tiny.n_vocab), dtype=np.float32)
    rows[:, 2] = 9  # </s>
    rows[:, 50] = 5
    greedy = SamplingParams(temperature=0)
    made = sequences(
        tiny,
        {"sampling": greedy},
        {"sampling": greedy, "ignore_eos": True},
        {"sampling": other, "min_tokens": 1},
    )
    assert StepSampler(tiny.vocab).choose(made, rows) == [2, 50, 50]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": float("inf")}, "top_p"),
        ({"repeat_penalty": 0.0}, "repeat_penalty"),
        ({"logit_bias": ((374, 1.0),)}, "logit_bias"),
        ({"logit_bias": ((-1, 1.0),)}, "logit_bias"),
        ({"logit_bias": ((1, float("nan")),)}, "logit_bias"),
    ],
)
def test_values_no_sampler_can_work_with(tiny: LoadedModel, fields: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        check_params(SamplingParams(**fields), tiny.n_vocab)
    assert caught.value.param == param
