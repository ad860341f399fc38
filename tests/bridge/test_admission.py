from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge.admission import MAX_RETRY_S, Ahead, Arrival, Limits, Rates, admission
from tasks.contract import Priority
from tasks.errors import PendraError

LIMITS = Limits(waiting=20, of_model=10, of_key=5, wait_s=60.0, batch_wait_s=600.0)
NEW = Arrival(model="m", priority=Priority.INTERACTIVE, ahead=Ahead(9, 9, 4, 9), slots=2, can_go_now=False)


def measured(seconds: float, model: str = "m") -> Rates:
    rates = Rates()
    rates.served(model, seconds)
    return rates


def refused(rates: Rates, job: Arrival = NEW, limits: Limits = LIMITS, **ahead: int) -> PendraError:
    problem = admission(replace(job, ahead=replace(job.ahead, **ahead)), rates, limits)
    assert problem is not None
    return problem


def test_below_every_bound_a_job_may_wait() -> None:
    assert admission(NEW, measured(4.0), LIMITS) is None
    assert admission(NEW, Rates(), LIMITS) is None


def test_a_job_that_can_go_at_once_is_taken_whatever_the_queue() -> None:
    full = replace(NEW, can_go_now=True, ahead=Ahead(99, 99, 99, 99), remaining=1.0)
    assert admission(full, measured(10), LIMITS) is None


@pytest.mark.parametrize(
    ("bound", "code"),
    [({"waiting": 20}, "queue_full"), ({"of_model": 10}, "queue_full"), ({"of_key": 5}, "rate_limited")],
)
def test_every_depth_has_a_bound(bound: dict[str, int], code: str) -> None:
    problem = refused(measured(4.0), **bound)
    assert (problem.code, problem.status, problem.retry_after, problem.position) == (code, 429, 20, 10)
    assert "number 10 in the queue" in problem.message
    assert "20 s" in problem.message


def test_before_anything_was_measured_only_depth_counts() -> None:
    assert refused(Rates(), waiting=20).retry_after == 1
    assert admission(NEW, measured(1e6, "another model"), LIMITS) is None


def test_the_time_to_come_back_has_a_bound() -> None:
    assert refused(measured(1e6), waiting=20).retry_after == MAX_RETRY_S


@pytest.mark.parametrize(
    ("priority", "seconds", "taken"),
    [
        (Priority.INTERACTIVE, 12.0, True),  # 10 jobs of 12 s on 2 slots: the bound of 60 s exactly
        (Priority.INTERACTIVE, 12.1, False),
        (Priority.BATCH, 12.1, True),
        (Priority.BATCH, 121.0, False),
    ],
)
def test_the_expected_wait_has_a_bound_per_priority(priority: Priority, seconds: float, taken: Any) -> None:
    problem = admission(replace(NEW, priority=priority), measured(seconds), LIMITS)
    assert (problem is None) is taken


def test_a_wait_that_is_too_long_says_when_it_will_not_be() -> None:
    problem = refused(measured(16.0))
    assert (problem.code, problem.retry_after, problem.position) == ("queue_full", 20, 10)


def test_a_deadline_that_passed_is_504() -> None:
    problem = refused(Rates(), replace(NEW, can_go_now=True, remaining=0.0))
    assert (problem.code, problem.status) == ("deadline_exceeded", 504)


def test_a_wait_longer_than_the_deadline_is_refused_at_once() -> None:
    assert admission(replace(NEW, remaining=30.0), measured(4.0), LIMITS) is None
    problem = refused(measured(4.0), replace(NEW, remaining=15.0))
    assert (problem.code, problem.retry_after) == ("queue_full", 20)


def test_the_average_follows_what_is_measured() -> None:
    rates = measured(1.0)
    for _ in range(100):
        rates.served("m", 3.0)
    service_s = rates.service_s("m")
    assert service_s is not None
    assert abs(service_s - 3.0) < 0.01
    assert rates.expected_wait("m", 4, 0) is None
    assert rates.service_s("other") is None
