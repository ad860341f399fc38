from __future__ import annotations

import pytest

from bridge.jobs import JobRecord, JobState
from bridge.supervision import (
    CLAIM_S,
    LATE_CLAIM_S,
    MAX_HANDOVERS,
    MAX_LOSSES,
    SWEEP_TIMERS,
    Claims,
    Due,
    Timer,
    Timers,
    may_hand_over,
    may_run_again,
    still_due,
)
from tests.bridge.builders import job


def record(state: JobState = JobState.RUNNING, **fields: int) -> JobRecord:
    made = JobRecord(job(), arrived=0.0, state=state)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_timers_come_up_in_order_of_time() -> None:
    timers = Timers()
    for when, name in ((3.0, "c"), (1.0, "a"), (2.0, "b")):
        timers.set(when, Timer(name, Due.CLAIM))
    assert [t.job_id for t in timers.pop_due(2.0)] == ["a", "b"]
    assert timers.pop_due(2.5) == []
    assert [t.job_id for t in timers.pop_due(9.0)] == ["c"]


def test_timers_of_ended_jobs_do_not_pile_up() -> None:
    timers = Timers()
    for n in range(10 * SWEEP_TIMERS):
        timers.set(1e6 + n, Timer(f"j{n}", Due.DEADLINE))
        timers.sweep({"j0", f"j{n}"})
    assert len(timers._heap) <= SWEEP_TIMERS
    assert [t.job_id for t in timers.pop_due(1e6)] == ["j0"]


@pytest.mark.parametrize(
    ("timer", "made", "due"),
    [
        (Timer("j", Due.DEADLINE), record(JobState.WAITING, attempt=2), True),
        (Timer("j", Due.DEADLINE), record(JobState.ENDED), False),
        (Timer("j", Due.CLAIM), record(JobState.DISPATCHED), True),
        (Timer("j", Due.CLAIM), record(JobState.RUNNING), False),
        (Timer("j", Due.CLAIM), record(JobState.DISPATCHED, attempt=1), False),
        (Timer("j", Due.SILENT, seq=4), record(next_seq=4), True),
        (Timer("j", Due.SILENT, seq=4), record(next_seq=5), False),
        (Timer("j", Due.UNSEEN), record(next_seq=5), True),
        (Timer("j", Due.UNSEEN), record(JobState.WAITING), False),
    ],
)
def test_a_timer_counts_only_for_what_it_was_set_for(timer: Timer, made: JobRecord, *, due: bool) -> None:
    assert still_due(timer, made) is due


def test_a_message_behind_ones_that_are_claimed_late_is_late_too() -> None:
    claims, slow = Claims(), LATE_CLAIM_S + 1
    claims.heard(10.0, 10.0 + slow)
    assert claims.behind(10.5, 10.0 + slow)
    assert not claims.behind(9.0, 10.0 + slow), "younger ones overtook it: it is lost"
    assert not claims.behind(None, 10.0 + slow), "nobody knows when it was sent"
    assert not claims.behind(10.5, 10.1 + slow + CLAIM_S), "the queue stands still"


def test_claims_that_come_soon_prove_nothing_about_one_that_does_not() -> None:
    claims = Claims()
    claims.heard(10.0, 10.0 + LATE_CLAIM_S / 2)
    claims.heard(None, 20.0)
    assert not claims.behind(10.1, 12.0)


def test_a_lost_attempt_is_followed_by_another_unless_nobody_could_go_on_or_too_many_were_lost() -> None:
    assert may_run_again(record())
    assert may_run_again(record(streamed=True))
    assert not may_run_again(record(streamed=True, continuable=False))
    assert not may_run_again(record(losses=MAX_LOSSES))


def test_handing_over_is_counted_apart() -> None:
    assert may_hand_over(record(losses=MAX_LOSSES, handovers=MAX_HANDOVERS))
    assert not may_hand_over(record(handovers=MAX_HANDOVERS + 1))
    assert not may_hand_over(record(continuable=False))
