"""The stall watchdog: what counts as standing still, and how the process ends."""

from __future__ import annotations

import logging
from functools import partial

import pytest

from tests.fakes.waiting import until
from worker.watchdog import EX_STALLED, Pulse, Stall, Watchdog


def pulse(working: int = 1, *, mark: int = 7, loading: bool = False) -> Pulse:
    return Pulse(working, loading, mark)


def looks(stall: Stall, *pulses: Pulse) -> list[bool]:
    return [stall.look(pulse) for pulse in pulses]


def test_jobs_whose_mark_stands_still_are_a_stall() -> None:
    stall = Stall(stall_s=3, loading_s=5, tick_s=1)
    assert looks(stall, *[pulse()] * 4) == [False, False, False, True]


def test_whatever_moves_starts_the_count_anew() -> None:
    stall = Stall(stall_s=2, loading_s=5, tick_s=1)
    assert looks(stall, *[pulse(mark=n // 2) for n in range(20)]) == [False] * 20


def test_an_idle_process_never_stalls() -> None:
    stall = Stall(stall_s=2, loading_s=5, tick_s=1)
    assert looks(stall, *[pulse(0)] * 10) == [False] * 10
    assert looks(stall, pulse(), pulse()) == [False, True], "counted from the first job"


def test_a_load_may_stand_still_for_longer() -> None:
    stall = Stall(stall_s=2, loading_s=4, tick_s=1)
    assert looks(stall, *[pulse(loading=True)] * 5) == [False, False, False, False, True]


def test_time_without_a_cpu_does_not_count() -> None:
    stall = Stall(stall_s=2, loading_s=4, tick_s=1)
    assert [stall.look(pulse(), lambda: 0.75) for _ in range(9)] == [False] * 8 + [True]
    assert not any(stall.look(pulse(mark=8), lambda: 1.0) for _ in range(20))


@pytest.mark.parametrize("goodbye_fails", [False, True])
def test_a_stalled_process_says_goodbye_and_ends(caplog: pytest.LogCaptureFixture, *, goodbye_fails: bool) -> None:
    caplog.set_level(logging.CRITICAL, "pendra.watchdog")
    done: list[object] = []

    def abandon() -> None:
        done.append("goodbye")
        if goodbye_fails:
            raise OSError

    watchdog = Watchdog(partial(pulse, 2), abandon, stall_s=0.05, end=done.append)
    if goodbye_fails:
        with pytest.raises(OSError):  # the thread's own, run here
            watchdog._run()
    else:
        watchdog.start()
    until(lambda: len(done) == 2)
    assert done == ["goodbye", EX_STALLED]
    assert [getattr(record, "action", "") for record in caplog.records] == ["worker.stalled"]


def test_a_stopped_watchdog_is_silent() -> None:
    done: list[object] = []
    watchdog = Watchdog(pulse, lambda: None, stall_s=0.05, end=done.append)
    watchdog.stop()
    watchdog._run()
    assert done == []
