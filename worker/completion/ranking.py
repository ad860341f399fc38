"""`best_of`: which of the replies made to a prompt are returned. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from worker.engine.api import TokenLogprob
from worker.generate.choice import Choice


def best(choices: Sequence[Choice], *, made: int, keep: int) -> list[Choice]:
    """Of each prompt's `made` choices, one prompt after the other, the `keep` likeliest: the likeliest first, of
    those alike the earlier."""
    groups = (choices[first : first + made] for first in range(0, len(choices), made))
    return [choice for group in groups for choice in sorted(group, key=_rank)[:keep]]


def mean_logprob(scores: Sequence[TokenLogprob]) -> float:
    """Of a reply's shown tokens; one that says nothing is the least likely."""
    return math.fsum(scored.logprob for scored in scores) / len(scores) if scores else -math.inf


def _rank(choice: Choice) -> float:
    return -mean_logprob(choice.scores)
