from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.engine.api import GenerationRequest, SamplingParams
from worker.engine.model import LoadedModel
from worker.engine.sampling import Candidates, Sampler, StepSampler
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
        "typical_p": st.sampled_from([0.3, 1.0]),
        "top_n_sigma": st.sampled_from([-1.0, 0.0, 1.0]),
        "xtc_probability": st.sampled_from([0.0, 0.5, 1.0]),
        "dynatemp_range": st.sampled_from([0.0, 0.5]),
        "dry_multiplier": st.sampled_from([0.0, 2.0]),
        "dry_allowed_length": st.sampled_from([0, 2]),
        "dry_penalty_last_n": st.sampled_from([-1, 0, 8]),
        "mirostat": st.sampled_from([0, 0, 0, 1, 2]),
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


# ------------------------------------------------------------ one rule a sampler


def probable(model: LoadedModel, *probabilities: float) -> np.ndarray:
    """A row whose tokens 0, 1, … have these probabilities; the others have none."""
    row = np.full(model.n_vocab, -50.0, dtype=np.float32)
    row[: len(probabilities)] = np.log(probabilities)
    return row


def drawn(model: LoadedModel, row: np.ndarray, count: int = 200, **fields: object) -> set[int]:
    open_ = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 11}
    return set(Chooser(model, SamplingParams(**{**open_, **fields})).many(np.repeat(row[None], count, axis=0)))


def test_xtc_takes_away_all_but_the_last_of_the_likely(tiny: LoadedModel) -> None:
    row = probable(tiny, 0.5, 0.3, 0.15, 0.05)
    assert drawn(tiny, row) == {0, 1, 2, 3}
    assert drawn(tiny, row, xtc_probability=1.0, xtc_threshold=0.1) == {2, 3}
    assert drawn(tiny, row, xtc_probability=1.0, xtc_threshold=0.51) == {0, 1, 2, 3}
    assert drawn(tiny, row, xtc_probability=1.0, temperature=0) == {2}


def test_typical_p_prefers_what_surprises_as_much_as_usual(tiny: LoadedModel) -> None:
    row = probable(tiny, 0.4, *[0.06] * 10)
    assert drawn(tiny, row, typical_p=0.3) <= set(range(1, 11))
    assert 0 in drawn(tiny, row)


def test_top_n_sigma_keeps_what_is_near_the_best(tiny: LoadedModel) -> None:
    row = np.random.default_rng(0).standard_normal(tiny.n_vocab).astype(np.float32)
    near = set(np.flatnonzero(row >= row.max() - row.std()).tolist())
    assert drawn(tiny, row, 500, top_n_sigma=1.0) <= near
    assert not drawn(tiny, row, 500) <= near


def test_dynamic_temperature_cools_what_is_certain(tiny: LoadedModel) -> None:
    row = probable(tiny, 0.97, 0.03)
    assert drawn(tiny, row, temperature=1.0) == {0, 1}
    assert drawn(tiny, row, temperature=1.0, dynatemp_range=1.0) == {0}


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_narrows_down_to_its_target(tiny: LoadedModel, version: int) -> None:
    row = -np.log(np.arange(1, tiny.n_vocab + 1, dtype=np.float32))  # Zipf's law
    wide, narrow = (
        Chooser(tiny, SamplingParams(temperature=1.0, seed=3, mirostat=version, mirostat_tau=tau)).many(
            np.repeat(row[None], 300, axis=0)
        )
        for tau in (7.0, 2.0)
    )
    assert np.mean(narrow[100:]) < np.mean(wide[100:]) / 2


def test_mirostat_at_temperature_0_takes_the_most_likely(tiny: LoadedModel, rows: np.ndarray) -> None:
    assert Chooser(tiny, SamplingParams(temperature=0, mirostat=2)).many(rows) == rows.argmax(axis=1).tolist()


def test_dry_breaks_a_loop_and_a_breaker_starts_anew(tiny: LoadedModel) -> None:
    a, b, c = (tiny.tokenize(text, add_special=False)[0] for text in ("x", "y", "z"))
    row = probable(tiny)
    row[[c, b]] = 5.0, 4.5
    said = [a, b, c, a, b]

    dry = {"dry_multiplier": 4.0, "dry_allowed_length": 1}

    def next_after(prompt: list[int], **fields: object) -> int:
        chooser = Chooser(tiny, SamplingParams(temperature=0, **{**dry, **fields}))
        chooser.sampler.restore(prompt, [], chooser.candidates)
        return chooser.many(row[None])[0]

    assert next_after(said) == b
    assert next_after(said, dry_penalty_last_n=0) == c
    assert next_after(said, dry_sequence_breakers=("y",)) == c


def test_a_restored_xtc_sampler_goes_on_with_its_draws(tiny: LoadedModel) -> None:
    rows = np.repeat(probable(tiny, 0.3, 0.3, 0.2, 0.2)[None], 40, axis=0)
    params = SamplingParams(temperature=1.0, seed=9, xtc_probability=0.5)
    whole = Chooser(tiny, params).many(rows)
    second = Chooser(tiny, params)
    second.sampler.restore([], whole[:15], second.candidates)
    assert second.many(rows[15:]) == whole[15:]


# ------------------------------------------------------------------------ an order of one's own


def test_an_order_of_ones_own_is_obeyed(tiny: LoadedModel) -> None:
    row = probable(tiny, 0.4, 0.3, 0.2, 0.1)
    cut = {"top_k": 0, "min_p": 0.0, "temperature": 100.0}
    assert drawn(tiny, row, top_p=0.5, samplers=("top_p", "temperature"), **cut) == {0, 1}
    assert (
        len(drawn(tiny, row, top_p=0.5, samplers=("temperature", "top_p"), **cut)) > 2
    )  # heat first: none is likely


def test_samplers_that_are_not_named_are_off(tiny: LoadedModel) -> None:
    row = probable(tiny, 0.4, 0.3, 0.2, 0.1)
    assert drawn(tiny, row, top_k=1, top_p=1, min_p=0, samplers=("temperature",), temperature=1.0) >= {0, 1, 2}
    assert drawn(tiny, row, top_k=1, samplers=("top_k",), temperature=5.0) == {0}
    assert drawn(tiny, row, samplers=("temperature",), temperature=0.0) == {0}
