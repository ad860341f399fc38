from __future__ import annotations

from dataclasses import replace

from bridge.admission import MAX_RETRY_S, Queueing, Rates, admission

FULL = Queueing(depth=10, ahead=10, slots=2, max_depth=10, can_go_now=False)


def measured(seconds: float) -> Rates:
    rates = Rates()
    rates.served(seconds)
    return rates


def test_a_job_that_can_go_at_once_is_taken_however_long_the_queue() -> None:
    assert admission(replace(FULL, can_go_now=True), measured(10), 1.0) is None


def test_a_full_queue_is_429_with_the_measured_wait() -> None:
    problem = admission(FULL, measured(4.0), None)
    assert problem is not None
    assert (problem.code, problem.status, problem.retry_after) == ("queue_full", 429, 22)


def test_before_anything_was_measured_the_shortest_wait_is_named() -> None:
    problem = admission(FULL, Rates(), None)
    assert problem is not None
    assert problem.retry_after == 1


def test_the_wait_named_has_a_bound() -> None:
    problem = admission(FULL, measured(1e6), None)
    assert problem is not None
    assert problem.retry_after == MAX_RETRY_S


def test_a_deadline_that_passed_is_504() -> None:
    problem = admission(replace(FULL, can_go_now=True), Rates(), 0.0)
    assert problem is not None
    assert (problem.code, problem.status) == ("deadline_exceeded", 504)


def test_a_wait_longer_than_the_deadline_is_refused_at_once() -> None:
    queue = replace(FULL, max_depth=100)
    assert admission(queue, measured(4.0), 30.0) is None
    problem = admission(queue, measured(4.0), 20.0)
    assert problem is not None
    assert problem.code == "queue_full"


def test_the_average_follows_what_is_measured() -> None:
    rates = measured(1.0)
    for _ in range(100):
        rates.served(3.0)
    assert rates.service_s is not None
    assert abs(rates.service_s - 3.0) < 0.01
    assert rates.expected_wait(4, 0) is None
