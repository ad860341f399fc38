"""Tokens a second: a mean over whole seconds, which forgets."""

from __future__ import annotations

from bridge.pace import WINDOW_S, Pace


def test_a_second_counts_when_it_is_over() -> None:
    pace = Pace()
    pace.said("w1", 3, 10.1)
    pace.said("w1", 3, 10.9)
    pace.said("w2", 30, 10.9)
    assert pace.rates(10.95) == {}
    assert pace.rates(11.0) == {"w1": 6 / WINDOW_S, "w2": 30 / WINDOW_S}


def test_a_steady_worker_has_its_own_rate() -> None:
    pace = Pace()
    for second in range(100, 110):
        for tenth in range(10):
            pace.said("w1", 5, second + tenth / 10)
    assert pace.rates(110.0) == {"w1": 50.0}


def test_silence_is_forgotten_after_the_window() -> None:
    pace = Pace()
    pace.said("w1", 9, 10.0)
    assert [pace.rates(10.0 + gap).get("w1", 0.0) for gap in range(6)] == [0.0, 3.0, 3.0, 3.0, 0.0, 0.0]
    pace.said("w1", 9, 500.0)
    assert pace.rates(1e9) == {}
