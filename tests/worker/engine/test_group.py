from __future__ import annotations

import pytest

from worker.engine.api import GenerationRequest
from worker.engine.group import Group
from worker.engine.sequence import Sequence, State


def group(**fields: object) -> Group:
    request = GenerationRequest(**{"request_id": "r", "prompt": (1, 2, 3), **fields})
    return Group(request, ctx_limit=100, now=10.0)


def over(seq: Sequence) -> Sequence:
    seq.move(State.FINISHED)
    return seq


def test_the_first_leads_and_the_others_are_held_once() -> None:
    made = group(n=3)
    assert [seq.leads for seq in made.choices] == [True, False, False]
    assert made.take_held() == made.choices[1:]
    assert made.take_held() == []
    assert not group().first.leads


def test_a_held_choice_can_end() -> None:
    made = group(n=3)
    assert made.drop_held(made.choices[1])
    assert not made.drop_held(made.first)
    assert made.take_held() == [made.choices[2]]
    assert made.choices[1].state is State.FINISHED
    assert made.open == [made.choices[2], made.first]


def test_the_last_choice_to_end_ends_the_group() -> None:
    made = group(n=2)
    with pytest.raises(AssertionError):
        made.end(made.first)
    assert not made.end(over(made.choices[1]))
    assert made.end(over(made.first))


def test_the_prompt_is_counted_once() -> None:
    made = group(n=2, resume=(8, 9))
    made.first.n_cached = 2
    for seq in made.choices:
        seq.add(5, 11.0)
    usage = made.usage()
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (3, 4, 2)


def test_times() -> None:
    made = group()
    assert made.timing().ttft_ms is None
    made.first.admitted_at = 10.5
    for token, at in ((4, 11.0), (5, 11.5), (6, 12.0)):
        made.first.add(token, at)
    timing = made.timing()
    assert (timing.worker_queue_wait_ms, timing.ttft_ms, timing.tokens_per_second) == (500, 500, 2)


def test_one_token_has_no_rate() -> None:
    made = group()
    made.first.add(4, 11.0)
    assert made.timing().tokens_per_second is None


class Masker:
    def __init__(self, name: str = "first") -> None:
        self.name = name

    def clone(self) -> Masker:
        return Masker("copy")


def test_every_choice_has_its_own_place_in_the_grammar() -> None:
    made = group(n=3, masker=Masker())
    assert [seq.masker.name for seq in made.choices] == ["first", "copy", "copy"]
    assert len({id(seq.masker) for seq in made.choices}) == 3
