"""Between release and claim: slots that are taken, refused or given back."""

from __future__ import annotations

from bridge.attempts import MAX_REFUSALS
from bridge.effects import Acquire, Release
from bridge.protocol import Cancel
from tests.bridge.builders import Driven, chunk, claimed, job, only, worker


def test_the_slot_may_be_another_candidates_and_the_claim_another_workers() -> None:
    driven = Driven(worker("w1", slots=1), worker("w2", slots=1))
    acquire = only(driven.send(job()), Acquire)
    driven.take(acquire, "w2")
    driven.events(claimed(worker_id="w1"), worker_id="w1")
    driven.events(chunk(1))
    assert only(driven.send(job("j2")), Acquire).candidates == (("w2", 1),)


def test_a_slot_another_bridge_took_is_tried_again_in_a_moment() -> None:
    driven = Driven(worker())
    acquire = only(driven.send(job()), Acquire)
    assert driven.do(driven.session.attempts.none_free("j1", 0, driven.now)) == []
    assert only(driven.tick(0.1), Acquire) == acquire


def test_a_cancel_while_the_slot_is_taken_gives_it_back() -> None:
    driven = Driven(worker())
    driven.send(job())
    assert driven.send(Cancel(job_id="j1")) == [Release("j1", 0)]
    assert driven.do(driven.session.attempts.taken("j1", 0, "w1", 9, driven.now)) == [Release("j1", 0)]


def test_a_dispatch_that_failed_is_tried_again_and_then_given_up() -> None:
    driven = Driven(worker())
    driven.send(job())
    for _ in range(MAX_REFUSALS):
        effects = driven.do(driven.session.attempts.dispatch_failed("j1", 0, driven.now))
        assert effects == [Release("j1", 0)]
        assert only(driven.tick(0.6, worker()), Acquire).job.attempt == 0
    driven.do(driven.session.attempts.dispatch_failed("j1", 0, driven.now))
    assert driven.of("error")[0]["code"] == "redis_unavailable"


def test_a_message_that_was_not_sent_frees_its_slot() -> None:
    driven = Driven(worker())
    driven.take(only(driven.send(job()), Acquire))
    assert driven.do(driven.session.attempts.enqueue_failed("j1", 0, driven.now)) == [Release("j1", 0)]
    assert only(driven.tick(0.6, worker()), Acquire).job.attempt == 1
    assert driven.do(driven.session.attempts.enqueue_failed("j1", 0, driven.now)) == [], "an old attempt's"
