from __future__ import annotations

import pytest

from worker.engine.api import GenerationRequest
from worker.engine.sequence import Sequence
from worker.engine.speculation import MOST_DRAFT, MeasuredCosts, Speculator, expected

LOOP = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) * 2 + (1, 2, 3)


def sequence(rate: float = 1.0, *, limit: int = 100, **fields: object) -> Sequence:
    """A sequence whose text repeats itself, and whose guesses were right at `rate` so far."""
    seq = Sequence(GenerationRequest("r", LOOP, **fields), ctx_limit=limit, now=0)
    Speculator(MeasuredCosts(), enabled=True, rewinds=True).draft([seq], room=8)
    seq.draft = []
    assert seq.lookup is not None
    seq.lookup.note(0, 0)
    seq.lookup.rate = rate
    return seq


def costs(**milliseconds: float) -> MeasuredCosts:
    """`rows_3=20`: a step of 3 tokens takes 20 ms."""
    made = MeasuredCosts()
    for name, ms in milliseconds.items():
        made.note(int(name.removeprefix("rows_")), ms / 1000)
    return made


def drafts(made: MeasuredCosts, *seqs: Sequence, room: int = 16) -> list[int]:
    Speculator(made, enabled=True, rewinds=True).draft(list(seqs), room=room)
    return [len(seq.draft) for seq in seqs]


FLAT = {f"rows_{rows}": 10.0 for rows in range(1, 20)}


def test_where_more_tokens_cost_nothing_drafts_are_as_long_as_they_may_be() -> None:
    assert drafts(costs(**FLAT), sequence()) == [MOST_DRAFT]


def test_where_every_token_costs_as_much_as_a_step_there_are_none() -> None:
    assert drafts(costs(**{f"rows_{rows}": 10.0 * rows for rows in range(1, 20)}), sequence()) == [0]


def test_poor_acceptance_turns_it_off() -> None:
    assert drafts(costs(rows_1=10, rows_9=15, rows_5=13, rows_3=12), sequence(0.1)) == [0]
    assert drafts(costs(rows_1=10, rows_9=15, rows_5=13, rows_3=12), sequence(0.9)) == [8]


def test_an_unknown_size_is_tried_when_alone_and_likely_right() -> None:
    assert drafts(costs(rows_1=10), sequence(1.0)) == [8]
    assert drafts(costs(rows_1=10), sequence(0.5)) == [0]


def test_others_are_not_slowed_down() -> None:
    assert drafts(costs(rows_2=10), sequence(), sequence()) == [0, 0]
    assert drafts(costs(rows_2=10, rows_10=12), sequence(), sequence()) == [0, 0]
    assert drafts(costs(**FLAT), sequence(), sequence()) == [8, 8]


def test_drafts_keep_to_the_room_and_to_the_limit() -> None:
    assert drafts(costs(**FLAT), sequence(), room=5) == [4]
    assert drafts(costs(**FLAT), sequence(limit=len(LOOP) + 3)) == [2]
    assert drafts(costs(**FLAT), sequence(limit=len(LOOP) + 1)) == [0]


@pytest.mark.parametrize(
    ("enabled", "rewinds", "asked"), [(False, True, True), (True, False, True), (True, True, False)]
)
def test_it_can_be_off(enabled: bool, rewinds: bool, asked: bool) -> None:  # noqa: FBT001  # parameters
    seq = (
        sequence(speculate=asked)
        if asked
        else Sequence(GenerationRequest("r", LOOP, speculate=False), ctx_limit=99, now=0)
    )
    assert Speculator(costs(**FLAT), enabled=enabled, rewinds=rewinds).draft([seq], room=16) == []


def test_a_size_that_did_not_pay_is_tried_again_after_a_while() -> None:
    made = costs(rows_1=10, rows_9=90)
    assert made.ratio(1, 8) == pytest.approx(9)
    for _ in range(400):
        made.note(1, 0.01)
    assert made.ratio(1, 8) is None


def test_expected_tokens() -> None:
    assert expected(0.0, 8) == 1
    assert expected(1.0, 8) == 9
    assert expected(0.5, 2) == 1.75
