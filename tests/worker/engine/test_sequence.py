from __future__ import annotations

import pytest

from worker.engine.api import FinishReason, GenerationRequest, SamplingParams
from worker.engine.sequence import Sequence, State

EOG = frozenset({99})


def sequence(**fields: object) -> Sequence:
    request = GenerationRequest(**{"request_id": "r", "prompt": (1, 2, 3), **fields})
    return Sequence(request, ctx_limit=100, now=10.0)


def test_states_move_only_along_the_drawn_lines() -> None:
    seq = sequence()
    seq.move(State.PREFILL)
    seq.move(State.DECODE)
    seq.move(State.FINISHED)
    with pytest.raises(AssertionError, match="finished cannot become decode"):
        seq.move(State.DECODE)


def test_the_limit_is_the_context_or_max_tokens_resumed_ones_included() -> None:
    assert sequence().limit == 100
    assert sequence(max_tokens=5).limit == 8
    assert sequence(max_tokens=5, resume=(4, 5)).limit == 8
    assert sequence(max_tokens=1000).limit == 100


def test_resumed_tokens_count_as_completion() -> None:
    seq = sequence(resume=(4, 5))
    seq.add(6, 11.0)
    assert seq.n_completion == 3
    assert seq.take_fresh() == (6,)
    assert seq.take_fresh() == ()


def test_eog_is_banned_until_min_tokens_and_with_ignore_eos() -> None:
    seq = sequence(min_tokens=1)
    assert seq.eog_banned
    seq.add(6, 11.0)
    assert not seq.eog_banned
    assert sequence(ignore_eos=True).eog_banned


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"max_tokens": 0}, FinishReason.LENGTH),
        ({"max_tokens": 2, "resume": (4, 5)}, FinishReason.LENGTH),
        ({"resume": (4, 99)}, FinishReason.STOP),
        ({"resume": (4, 99), "ignore_eos": True}, None),
        ({"prompt": (1, 99)}, None),
    ],
)
def test_what_is_over_before_it_starts(fields: dict[str, object], reason: FinishReason | None) -> None:
    assert sequence(**fields).over_before_start(EOG) is reason


def test_a_resumed_reply_that_met_its_stop_string_is_over() -> None:
    seq = sequence(stop=("END",), resume=(4,))
    seq.piece = {4: b"the END"}.__getitem__
    seq.restore_text()
    assert seq.over_before_start(EOG) is FinishReason.STOP


def test_each_choice_has_a_seed_of_its_own() -> None:
    request = GenerationRequest("r", (1,), sampling=SamplingParams(seed=7), resume=(2, 3), n=2)
    first, second = (Sequence(request, index=i, ctx_limit=100, now=0) for i in range(2))
    assert (first.sampling.seed, second.sampling.seed) == (7, 8)
    assert (first.resumed, second.resumed) == ([2, 3], [])
