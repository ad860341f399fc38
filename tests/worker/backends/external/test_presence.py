"""When a backend is offered: at once, withdrawn at once, and not offered while it flaps."""

from __future__ import annotations

import itertools
from functools import reduce
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.backends.external.presence import STEADY, Missed, Presence, Seen, Sighting, after, needed
from worker.backends.external.product import Found, ProductName

URL = "http://localhost:11434"
GOOD = Seen(Found(ProductName.OLLAMA, URL))
GONE = Missed("connection refused")
LATE = Missed("no answer", frozenset({URL}))
LATE_ELSEWHERE = Missed("no answer", frozenset({"http://host.docker.internal:11434"}))
LOOKS = st.lists(st.sampled_from([GOOD, GONE, LATE, LATE_ELSEWHERE]), max_size=80)


EVERY_S = 15.0


def run(*looks: Sighting, every_s: float = EVERY_S) -> Presence:
    times = itertools.count(step=every_s)
    return reduce(lambda presence, look: after(presence, look, next(times)), looks, Presence())


def history(looks: list[Sighting]) -> list[bool]:
    shown, presence = [], Presence()
    for number, look in enumerate(looks):
        presence = after(presence, look, number * EVERY_S)
        shown.append(presence.shown is not None)
    return shown


def test_it_appears_and_vanishes_at_the_next_look() -> None:
    assert run(GOOD).shown is GOOD
    assert run(GOOD, GONE).shown is None


def test_a_restart_is_no_flapping() -> None:
    assert run(GOOD, GONE, GOOD).shown is GOOD


def test_slow_is_not_gone_once() -> None:
    assert run(GOOD, LATE).shown is GOOD
    assert run(GOOD, LATE, LATE).shown is None
    assert run(GOOD, LATE, GOOD, LATE).shown is GOOD
    assert run(LATE).shown is None
    assert run(GOOD, LATE_ELSEWHERE).shown is None, "where it was shown, nothing is"


def test_who_looks_often_is_as_patient() -> None:
    assert run(GOOD, *[LATE] * 10, every_s=1.0).shown is GOOD
    assert run(GOOD, *[LATE] * 11, every_s=1.0).shown is None
    assert run(GOOD, *[LATE, GOOD] * 99, every_s=1.0).shown is GOOD


def test_who_comes_and_goes_must_stay_longer_each_time() -> None:
    twice = run(GOOD, GONE, GOOD, GONE)
    assert history([GOOD, GONE, GOOD, GONE, GOOD, GOOD]) == [True, False, True, False, False, True]
    assert after(twice, GOOD, 60).held
    assert after(twice, GOOD, 60).to_go == 1
    assert [needed(flaps) for flaps in range(7)] == [1, 1, 2, 4, 8, 8, 8]


def test_a_steady_time_forgives() -> None:
    assert run(*[GOOD, GONE] * 9, *[GOOD] * STEADY, GONE, GOOD).shown is GOOD


@given(LOOKS)
def test_nothing_is_offered_that_was_not_there(looks: list[Sighting]) -> None:
    for number, shown in enumerate(history(looks)):
        if shown:
            assert looks[number] is GOOD or (looks[number] is LATE and looks[number - 1] is GOOD)


@given(LOOKS)
def test_it_does_not_come_up_often(looks: list[Sighting]) -> None:
    shown = [False, *history(looks)]
    ups = sum(now and not before for before, now in pairwise(shown))
    assert ups <= 2 + len(looks) // 4


@given(LOOKS)
def test_whoever_stays_is_offered(looks: list[Sighting]) -> None:
    assert history([*looks, *[GOOD] * STEADY])[-1]
