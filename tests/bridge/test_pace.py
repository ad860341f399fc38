"""Tokens a second: from the workers' counters, or from what passes, between heartbeats."""

from __future__ import annotations

from bridge.pace import FORGET_S, WINDOW_S, Pace
from tasks.figures import EngineFigures


def engine(made: int, model: str = "m") -> EngineFigures:
    return EngineFigures(model=model, completion_tokens=made)


def test_what_a_worker_counted_between_its_heartbeats() -> None:
    pace = Pace()
    pace.beat("w1", [engine(1000)], 10.0)
    assert pace.rates(10.0) == {}
    pace.beat("w1", [engine(1050)], 11.0)
    pace.beat("w1", [engine(1100), engine(20, "n")], 12.0)
    pace.said("w1", 500)  # it counts itself: nothing counts twice
    assert pace.rates(12.0) == {"w1": 60.0}


def test_only_the_last_seconds_count() -> None:
    pace = Pace()
    for second in range(20):
        pace.beat("w1", [engine(0 if second < 10 else 30 * (second - 9))], float(second))
    assert pace.rates(19.0) == {"w1": 30.0}


def test_a_counter_that_begins_anew() -> None:
    pace = Pace()
    pace.beat("w1", [engine(5000)], 1.0)
    pace.beat("w1", [], 2.0)  # unloaded
    pace.beat("w1", [engine(40)], 3.0)
    assert pace.rates(3.0) == {"w1": 20.0}
    pace.beat("w1", [engine(20)], 4.0)
    assert pace.rates(4.0) == {"w1": 20.0}


def test_of_an_external_server_the_pieces_that_pass() -> None:
    pace = Pace()
    pace.said("proxy", 99)  # nobody knows it yet
    pace.beat("proxy", [], 1.0)
    pace.said("proxy", 30)
    pace.beat("proxy", [], 3.0)
    assert pace.rates(3.0) == {"proxy": 15.0}


def test_who_falls_silent_makes_nothing_and_is_forgotten() -> None:
    pace = Pace()
    pace.beat("w1", [engine(0)], 1.0)
    pace.beat("w1", [engine(50)], 2.0)
    assert pace.rates(2.0 + WINDOW_S + 0.1) == {}
    pace.rates(2.0 + FORGET_S + 0.1)
    pace.beat("w1", [engine(90)], 100.0)
    assert pace.rates(100.0) == {}
