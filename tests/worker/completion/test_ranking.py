"""Which replies `best_of` keeps."""

from __future__ import annotations

import math

from worker.completion.ranking import best, mean_logprob
from worker.engine.api import TokenLogprob
from worker.generate.choice import Choice


def choice(index: int, *logprobs: float) -> Choice:
    made = Choice(index)
    made.scores = [TokenLogprob(7, logprob) for logprob in logprobs]
    return made


def test_the_mean_counts_not_the_sum() -> None:
    long, short = choice(0, -1.0, -1.0, -1.0), choice(1, -1.5)
    assert best([short, long], made=2, keep=1) == [long]


def test_each_prompt_has_its_own_best() -> None:
    choices = [choice(0, -3.0), choice(1, -1.0), choice(2, -2.0), choice(3, -9.0), choice(4, -8.0), choice(5, -7.0)]
    assert [one.index for one in best(choices, made=3, keep=2)] == [1, 2, 5, 4]


def test_of_equals_the_earlier_comes_first() -> None:
    assert [one.index for one in best([choice(n, -1.0) for n in range(3)], made=3, keep=2)] == [0, 1]


def test_who_says_nothing_is_last() -> None:
    assert mean_logprob([]) == -math.inf
    assert [one.index for one in best([choice(0), choice(1, -50.0)], made=2, keep=2)] == [1, 0]
