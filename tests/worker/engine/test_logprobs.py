from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.api import TokenLogprob
from worker.engine.logprobs import Scores, score

ROW = np.log(np.array([0.1, 0.5, 0.25, 0.15], dtype=np.float32)) + np.float32(7)


def test_a_score_is_the_natural_log_of_the_models_probability() -> None:
    scored = score(ROW, 2, 3)
    assert scored.logprob == pytest.approx(np.log(0.25), abs=1e-5)
    assert [token for token, _ in scored.top] == [1, 2, 3]
    assert [value for _, value in scored.top] == pytest.approx(np.log([0.5, 0.25, 0.15]), abs=1e-5)


def test_no_alternatives_and_more_than_there_are() -> None:
    assert score(ROW, 2, 0).top == ()
    assert len(score(ROW, 2, 20).top) == 4


@given(seed=st.integers(0, 1000), top=st.integers(1, 20))
def test_the_best_come_first_and_equals_by_id(seed: int, top: int) -> None:
    row = np.random.default_rng(seed).integers(0, 9, 200).astype(np.float32)
    expected = sorted(range(200), key=lambda token: (-row[token], token))[:top]
    values = [row[token] for token, _ in score(row, 0, top).top]
    assert values == [row[token] for token in expected]
    found = score(row, 0, top).top
    assert list(found) == sorted(found, key=lambda pair: (-pair[1], pair[0]))


def scored(token: int) -> TokenLogprob:
    return TokenLogprob(token, -1.0)


def test_scores_are_handed_out_once_with_their_text() -> None:
    scores = Scores(0)
    for token in (1, 2, 3):
        scores.add(scored(token))
    scores.accept(4)
    scores.accept(2)
    assert scores.take() == (scored(1), scored(2))
    assert scores.take() == ()
    scores.accept(1)
    assert scores.take() == (scored(3),)


@pytest.mark.parametrize(("cut", "left"), [(0, 3), (1, 3), (2, 2), (3, 2), (6, 1), (7, 0), (99, 0)])
def test_tokens_that_lie_wholly_in_what_is_cut_off_are_left_out(cut: int, left: int) -> None:
    scores = Scores(0)
    for token, size in ((1, 1), (2, 4), (3, 2)):
        scores.add(scored(token))
        scores.accept(size)
    assert len(scores.take(cut)) == left
