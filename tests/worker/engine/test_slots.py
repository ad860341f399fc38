from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.slots import Placement, SlotTable, common_prefix

tokens = st.lists(st.integers(min_value=0, max_value=2), max_size=600)


def table(*caches: list[int], sharing: bool = False) -> SlotTable:
    """A table whose free slots hold these caches, the first one left longest ago."""
    slots = SlotTable(len(caches), sharing=sharing)
    for slot in range(len(caches)):
        slots.take(slot)
    for slot, cache in enumerate(caches):
        slots.release(slot, cache)
    return slots


def find(slots: SlotTable, wanted: list[int], *, reuse: bool = True, **running: tuple[list[int], int]) -> Placement:
    place = slots.find(wanted, reuse=reuse, running={int(k[1:]): v for k, v in running.items()})
    assert place is not None
    return place


@given(held=tokens, wanted=tokens, most=st.integers(min_value=0, max_value=700))
def test_common_prefix_is_what_counting_gives(held: list[int], wanted: list[int], most: int) -> None:
    count = 0
    while count < min(len(held), len(wanted), most) and held[count] == wanted[count]:
        count += 1
    assert common_prefix(held, wanted, most) == count


def test_the_longest_common_prefix_wins() -> None:
    slots = table([1, 2, 9], [1, 2, 3, 4], [7])
    assert find(slots, [1, 2, 3, 4, 5]) == Placement(1, 4)


def test_one_token_is_always_left_to_evaluate() -> None:
    assert find(table([1, 2, 3]), [1, 2, 3]) == Placement(0, 2)


def test_without_a_match_an_empty_slot_then_the_least_recently_used_is_taken() -> None:
    assert find(table([5, 6], [], [7, 8]), [1, 2, 3]).slot == 1
    assert find(table([5, 6], [7, 8]), [1, 2, 3]).slot == 0


def busy(slots: SlotTable, *numbers: int) -> SlotTable:
    for number in numbers:
        slots.take(number)
    return slots


def test_neighbours_of_busy_slots_are_taken_first() -> None:
    assert find(busy(SlotTable(6, sharing=False), 3), [1]).slot == 2
    assert find(busy(SlotTable(6, sharing=False), 1, 3), [1]).slot == 2
    assert find(busy(SlotTable(6, sharing=False), 0, 4, 5), [1], reuse=False).slot == 1


def test_for_a_neighbour_no_cache_of_the_younger_half_is_given_up() -> None:
    caches = [[n, n] for n in range(10, 18)]
    assert find(busy(table(*caches), 3), [1]).slot == 2
    assert find(busy(table(*caches), 7), [1]).slot == 0


def test_a_short_match_does_not_cost_a_long_conversation_its_cache() -> None:
    long = [1, *range(100, 200)]
    assert find(table(long, []), [1, *range(300, 320)]).slot == 1


def test_the_same_prompt_again_finds_its_slot_although_the_reply_was_long() -> None:
    cache = [1, 2, 3, 4, *range(100, 200)]
    assert find(table([], cache), [1, 2, 3, 4]) == Placement(1, 3)


def test_cache_prompt_false_evaluates_everything() -> None:
    assert find(table([1, 2, 3], [9]), [1, 2, 3], reuse=False) == Placement(0, 0)


def test_no_place_when_all_slots_are_busy() -> None:
    slots = SlotTable(1, sharing=False)
    slots.take(0)
    assert slots.find([1], reuse=True, running={}) is None


def test_a_prefix_is_shared_from_a_busy_slot() -> None:
    slots = SlotTable(2, sharing=True)
    slots.take(0)
    assert find(slots, [1, 2, 3, 4], s0=([1, 2, 3, 9], 3)) == Placement(1, 0, donor=0, share=3)


def test_only_evaluated_tokens_are_shared() -> None:
    slots = SlotTable(2, sharing=True)
    slots.take(0)
    assert find(slots, [1, 2, 3, 4], s0=([1, 2, 3, 4], 2)).share == 2


def test_a_prefix_is_shared_from_a_free_slot_that_is_worth_keeping() -> None:
    long = [1, 2, *range(100, 200)]
    place = find(table(long, [], sharing=True), [1, 2, *range(300, 320)])
    assert place == Placement(1, 0, donor=0, share=2)


def test_resident_counts_the_caches_and_eviction_goes_by_age() -> None:
    slots = table([1, 2], [3, 4, 5], [])
    assert slots.resident == 5
    assert slots.least_used_cache() == 0
    slots.forget(0)
    assert slots.least_used_cache() == 1
    slots.forget(1)
    assert slots.least_used_cache() is None
    assert slots.resident == 0


def test_a_slot_is_taken_and_freed_once() -> None:
    slots = SlotTable(1, sharing=False)
    with pytest.raises(AssertionError, match="freed twice"):
        slots.release(0, [])
    slots.take(0)
    with pytest.raises(AssertionError, match="taken twice"):
        slots.take(0)
