"""Which idle models make room: the longest unused first, and none in vain; and which were idle for long enough."""

from __future__ import annotations

from worker.residency import FIRST_USE_S, Ageing, Decision, Resident, age, decide

OLD = Resident("old", 10, busy=False, last_used=1)
NEW = Resident("new", 10, busy=False, last_used=2)
BUSY = Resident("busy", 10, busy=True, last_used=0)


def test_nothing_goes_when_there_is_room():
    assert decide(5, 10, 10, [OLD, NEW]) == Decision(fits=True)


def test_the_longest_unused_goes_first():
    assert decide(5, 10, 0, [NEW, OLD]) == Decision(fits=True, evict=("old",))
    assert decide(5, 15, 0, [NEW, OLD]) == Decision(fits=True, evict=("old", "new"))


def test_a_busy_model_stays():
    assert decide(5, 10, 0, [BUSY, NEW]) == Decision(fits=True, evict=("new",))
    assert decide(5, 10, 0, [BUSY]) == Decision(fits=False)


def test_less_than_wanted_is_enough():
    assert decide(5, 100, 0, [OLD]) == Decision(fits=True, evict=("old",))


def test_what_never_fits_evicts_nobody():
    assert decide(50, 60, 5, [OLD, NEW, BUSY]) == Decision(fits=False)


def test_an_empty_device():
    assert decide(5, 10, 5, []) == Decision(fits=True)
    assert decide(5, 10, 4, []) == Decision(fits=False)


def kept(model: str, keep_s: float, last_used: float = 100, *, busy: bool = False, used: bool = True) -> Resident:
    return Resident(model, 1, busy, last_used, keep_s, used)


def test_an_idle_model_ends_after_its_time():
    residents = [kept("a", 10), kept("b", 20), kept("c", -1)]
    assert age(residents, 100) == Ageing((), 10)
    assert age(residents, 109.5) == Ageing((), 0.5)
    assert age(residents, 110) == Ageing(("a",), 10)
    assert age(residents, 1000) == Ageing(("a", "b"), None)


def test_a_model_in_use_or_kept_for_ever_never_ends():
    assert age([kept("a", 0, busy=True), kept("b", -1)], 10**9) == Ageing((), None)


def test_nothing_kept_ends_at_once():
    assert age([kept("a", 0)], 100) == Ageing(("a",), None)


def test_a_model_just_loaded_waits_for_its_first_request():
    fresh = kept("a", 0, used=False)
    assert age([fresh], 100) == Ageing((), FIRST_USE_S)
    assert age([fresh], 100 + FIRST_USE_S) == Ageing(("a",), None)
    assert age([kept("a", 500, used=False)], 100) == Ageing((), 500)
