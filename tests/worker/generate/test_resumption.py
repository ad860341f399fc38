"""What the bridge notes of a reply leads back to what was delivered of each choice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.generate.resumption import END, Delivered, pack, unpack


def test_one_choice_is_its_tokens():
    assert pack(0, (7, 8)) == (7, 8)
    assert unpack((7, 8), 1).of(0) == (7, 8)
    assert unpack((), 1) == Delivered(((),))
    assert Delivered().of(3) == ()


@given(st.lists(st.tuples(st.integers(0, 40), st.lists(st.integers(0, 300_000), max_size=5), st.booleans())))
def test_any_mixture_of_choices_comes_apart_again(said):
    numbers: list[int] = []
    tokens: dict[int, tuple[int, ...]] = {}
    ended = set()
    for index, ids, end in said:
        numbers += pack(index, (*ids, END) if end else ids)
        tokens[index] = (*tokens.get(index, ()), *ids)
        ended |= {index} if end else set()
    got = unpack(numbers, 41)
    assert {index: got.of(index) for index in tokens} == tokens
    assert got.ended == ended
    assert all(number < 2**53 for number in numbers)  # whole numbers for every reader of JSON


def test_choices_that_were_not_asked_for_are_left_out():
    assert unpack(pack(3, (5, END)), 2) == Delivered(((), ()))
