"""Which idle models make room: the longest unused first, and none in vain."""

from __future__ import annotations

from worker.residency import Decision, Resident, decide

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
