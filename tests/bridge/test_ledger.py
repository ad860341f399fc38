"""The moves of a job: cancelled wherever it is, run again after what was delivered, and how often."""

from __future__ import annotations

import pytest

from bridge.effects import Acquire, CancelOnWorker, Release
from bridge.protocol import Cancel
from bridge.supervision import MAX_HANDOVERS, MAX_LOSSES
from tasks.contract import Resume
from tests.bridge.builders import Driven, chunk, claimed, failed, finished, job, only, progress, worker


def test_a_waiting_job_is_gone_when_cancelled() -> None:
    driven = Driven(worker(slots=1))
    driven.start("a")
    driven.send(job("b"))
    driven.clear()
    assert driven.send(Cancel(job_id="b")) == []
    assert driven.events(finished(1, "a")) == []
    assert not any(f.get("job_id") == "b" for f in driven.frames)


def test_a_dispatched_job_is_released_and_a_late_claim_is_stopped() -> None:
    driven = Driven(worker())
    driven.take(only(driven.send(job()), Acquire))
    assert driven.send(Cancel(job_id="j1")) == [Release("j1", 0)]
    driven.clear()
    assert driven.events(claimed()) == [CancelOnWorker("w1", "j1", 0)]
    assert driven.events(chunk(1)) == [], "said once"
    assert driven.frames == []


def test_a_running_job_is_stopped_on_its_worker_and_nothing_more_is_sent() -> None:
    driven = Driven(worker())
    driven.start()
    driven.clear()
    assert driven.send(Cancel(job_id="j1")) == [CancelOnWorker("w1", "j1", 0)]
    assert driven.events(chunk(1), failed(2, code="cancelled")) == []
    assert driven.frames == []


def test_cancelling_what_is_unknown_is_nothing() -> None:
    assert Driven(worker()).send(Cancel(job_id="?")) == []


# ------------------------------------------------------------------ another attempt


def test_what_an_old_attempt_still_says_is_dropped() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    driven.take(only(driven.tick(4.0, worker("w2")), Acquire))
    driven.clear()
    assert driven.events(chunk(1, "old")) == []
    assert driven.frames == []


def test_a_stream_goes_on_elsewhere_after_what_was_delivered() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    driven.events(chunk(1, "a", tokens=()), chunk(2, "b", tokens=(7, 8)))
    again = only(driven.tick(4.0, worker("w2")), Acquire)
    assert (again.job.attempt, again.job.first_seq, again.candidates) == (1, 3, (("w2", 2),))
    assert again.job.resume == Resume(token_ids=(7, 8))
    driven.take(again)
    driven.events(claimed(seq=3, attempt=1, worker_id="w2"), chunk(4, "c", attempt=1), finished(5, attempt=1))
    assert driven.text() == "abc"
    assert driven.seqs() == [0, 1, 2, 3, 4, 5]
    assert len(driven.of("usage")) == 1
    assert driven.of("error") == []


def test_a_reply_of_which_only_the_role_was_said_goes_on_without_saying_it_again() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    driven.events(chunk(1, "role", tokens=()))
    again = only(driven.tick(4.0, worker("w2")), Acquire)
    assert (again.job.first_seq, again.job.resume) == (2, Resume())


def test_what_was_not_delivered_is_not_resumed() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    driven.events(progress(seq=1))
    again = only(driven.tick(4.0, worker("w2")), Acquire)
    assert (again.job.first_seq, again.job.resume) == (2, None), "the new attempt says the role itself"


def test_tokens_behind_a_hole_were_not_delivered() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    driven.events(chunk(1, "a", tokens=(7,)))
    driven.events(chunk(3, "c", tokens=(9,)))
    again = only(driven.tick(4.0, worker("w2")), Acquire)
    assert (again.job.first_seq, again.job.resume) == (2, Resume(token_ids=(7,)))


def test_a_stream_whose_tokens_nobody_knows_ends_with_one_error() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    driven.events(chunk(1, "a", tokens=None))
    effects = driven.tick(4.0, worker("w2"))
    assert not [e for e in effects if isinstance(e, Acquire)]
    (error,) = driven.of("error")
    assert (error["code"], error["status"], error["seq"], error["worker_id"]) == ("worker_lost", 502, 2, "w1")


@pytest.mark.parametrize("stream", [True, False])
def test_a_job_is_not_repeated_for_ever(*, stream: bool) -> None:
    driven = Driven(worker("w1"))
    driven.start(stream=stream)
    if stream:
        driven.events(chunk(1, "a"))
    for attempt in range(1, MAX_LOSSES):
        again = only(driven.do(driven.session.fleet_news(worker(epoch=f"r{attempt}"), driven.now)), Acquire)
        driven.take(again)
        driven.events(claimed(seq=again.job.first_seq, attempt=attempt))
    driven.do(driven.session.fleet_news(worker(epoch="last"), driven.now))
    assert [f["code"] for f in driven.of("error")] == ["worker_lost"]
    assert driven.session.open_jobs == 0


def test_what_draining_workers_hand_over_does_not_count_as_lost() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start()
    driven.events(chunk(1, "a"))
    seq, on = 2, "w1"
    for attempt in range(MAX_LOSSES + 1):
        given_up = failed(seq, attempt=attempt, code="draining", retryable=True)
        again = only(driven.events(given_up, worker_id=on), Acquire)
        on = again.candidates[0][0]
        driven.take(again)
        driven.events(claimed(seq=seq, attempt=attempt + 1, worker_id=on), worker_id=on)
        seq += 1
    assert driven.of("error") == []
    assert again.job.resume == Resume(token_ids=(1,))


def test_handing_over_has_an_end() -> None:
    driven = Driven(worker())
    driven.start()
    for attempt in range(MAX_HANDOVERS + 1):
        effects = driven.events(failed(attempt + 1, attempt=attempt, code="draining", retryable=True))
        if again := [e for e in effects if isinstance(e, Acquire)]:
            driven.take(again[0])
            driven.events(claimed(seq=attempt + 1, attempt=attempt + 1))
    assert [f["code"] for f in driven.of("error")] == ["draining"]


def test_a_retryable_failure_moves_the_job_elsewhere() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    effects = driven.events(failed(1, retryable=True))
    assert only(effects, Acquire).candidates == (("w2", 2), ("w1", 2))
    assert driven.of("error") == []


def test_a_final_failure_is_the_clients() -> None:
    driven = Driven(worker())
    driven.start()
    assert driven.events(failed(1, param="messages")) == []
    (error,) = driven.of("error")
    assert (error["code"], error["message"], error["param"]) == ("out_of_memory", "no room", "messages")
