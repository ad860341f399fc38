"""What is taken, what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.admission import Limits
from bridge.protocol import Drain
from tests.bridge.builders import Driven, finished, job, worker


@pytest.mark.parametrize(
    ("frame", "code", "status"),
    [
        (job(model="other"), "model_not_found", 404),
        (job(pin="w9"), "worker_not_found", 404),
        (job(deadline=1.0), "deadline_exceeded", 504),
    ],
)
def test_what_cannot_be_served_is_answered_at_once(frame: Any, code: str, status: int) -> None:
    driven = Driven(worker())
    assert driven.send(frame) == []
    (error,) = driven.of("error")
    assert (error["code"], error["status"], error["seq"]) == (code, status, 0)
    assert driven.of("accepted") == []


def test_without_any_worker_the_answer_is_503() -> None:
    driven = Driven()
    driven.send(job())
    assert driven.of("error")[0]["code"] == "no_worker"


def test_beyond_the_depth_the_answer_is_429_with_retry_after() -> None:
    driven = Driven(worker(slots=1), limits=Limits(waiting=1))
    for name in ("runs", "waits", "refused"):
        driven.send(job(name))
    (error,) = driven.of("error")
    assert (error["job_id"], error["status"], error["position"]) == ("refused", 429, 2)
    assert error["retry_after"] >= 1
    assert [f["position"] for f in driven.of("accepted")] == [0, 0]


def test_slots_that_another_bridge_holds_do_not_open_the_queue() -> None:
    driven = Driven(worker(slots=4), limits=Limits(waiting=2))
    driven.send(job("first"))
    driven.do(driven.session.attempts.none_free("first", 0, driven.now))
    for name in ("second", "third"):
        driven.send(job(name))
    assert [f["job_id"] for f in driven.of("error")] == ["third"]


def test_one_key_cannot_fill_the_queue() -> None:
    driven = Driven(worker(slots=1), limits=Limits(of_key=2))
    for n in range(4):
        driven.send(job(f"a{n}", tenant="a"))
    driven.send(job("b", tenant="b"))
    assert [(f["job_id"], f["code"]) for f in driven.of("error")] == [("a3", "rate_limited")]
    assert driven.of("accepted")[-1] == {"type": "accepted", "job_id": "b", "position": 1}


def test_a_job_sent_twice_runs_once() -> None:
    driven = Driven(worker())
    driven.send(job())
    assert driven.send(job()) == []
    assert len(driven.of("accepted")) == 1


def test_a_draining_bridge_takes_nothing_new_and_finishes_what_it_has() -> None:
    driven = Driven(worker())
    driven.start()
    driven.now += 1
    driven.send(Drain())
    assert driven.of("workers")[-1]["workers"][0]["draining"]
    driven.send(job("late"))
    assert driven.of("error")[0]["code"] == "draining"
    driven.events(finished(1))
    assert driven.of("result")
