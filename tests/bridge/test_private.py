"""Private jobs in the session: who may run them, and how another worker gets its turn (docs/decisions/0006)."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.effects import Acquire, CancelOnWorker, Effect, Enqueue, Fence, Heal, Release
from bridge.protocol import Cancel
from tasks.contract import Resume
from tests.bridge.builders import Driven, chunk, claimed, failed, finished, job, worker

KID, NEWER = "ab" * 32, "cd" * 32


def sealed(*kids: str, **fields: Any) -> dict[str, Any]:
    recipients = [{"kid": kid} for kid in kids or (KID,)]
    return {"body": {"pendra_encrypted": {"v": 2, "recipients": recipients}}, **fields}


def holder(worker_id: str, *kids: str) -> Any:
    return worker(worker_id, kids=kids or (KID,))


def step(seq: int, *, whole: bool = False, attempt: int = 0, kid: str = KID) -> Any:
    return chunk(seq, f"f{seq}", attempt=attempt, tokens=(), kid=kid, step=b"s%d" % seq, whole=whole)


def of(effects: list[Effect], kind: type[Any]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


@pytest.fixture
def driven() -> Driven:
    """A private job runs on w1 and has delivered two frames."""
    driven = Driven(holder("w1"), holder("w2"))
    driven.start(worker_id="w1", **sealed())
    driven.events(step(1, whole=True), step(2))
    driven.clear()
    return driven


def lose(driven: Driven) -> list[Effect]:
    """w1's lease lapses."""
    return driven.tick(4.0, holder("w2"))


def fence(driven: Driven) -> list[Effect]:
    return driven.do(driven.session.attempts.fenced("j1", 0, driven.now))


def drain(driven: Driven, *events: Any, full: bool = False) -> list[Effect]:
    """The stream is read to its end, and held these."""
    driven.session.heal_started()
    out = driven.events(*events) if events else []
    return out + driven.do(driven.session.healed(driven.now, full=full))


def test_it_goes_through_the_own_queue_of_a_worker_that_holds_a_key() -> None:
    driven = Driven(worker("w1"), holder("w2", NEWER))
    (acquire,) = of(driven.send(job(**sealed(KID, NEWER))), Acquire)
    assert acquire.candidates[0][0] == "w2"
    assert driven.take(acquire).queue == "worker.w2"
    assert acquire.job.private


@pytest.mark.parametrize("pin", [None, "w1"])
def test_when_nobody_holds_a_key_it_says_so(pin: str | None) -> None:
    driven = Driven(worker("w1"))
    driven.send(job(**sealed(), pin=pin))
    (error,) = driven.of("error")
    assert (error["code"], error["status"]) == ("no_private_inference_worker", 503)


def test_the_keys_of_the_frame_count_when_the_body_is_elsewhere() -> None:
    driven = Driven(worker("w1"), holder("w2"))
    (acquire,) = of(driven.send(job(body={}, kids=(KID,))), Acquire)
    assert (acquire.candidates[0][0], acquire.job.private) == ("w2", True)


def test_a_lost_attempt_is_fenced_then_drained_then_followed(driven: Driven) -> None:
    lost = lose(driven)
    assert of(lost, Fence) == [Fence("j1", 0)]
    assert not of(lost, Acquire)
    assert not of(fence(driven), Acquire)
    (again,) = of(drain(driven, step(3), step(4)), Acquire)
    assert (again.job.attempt, again.job.first_seq) == (1, 5)
    assert again.job.resume == Resume(kid=KID, steps=(b"s1", b"s2", b"s3", b"s4"))
    assert driven.text() == "f3f4"


def test_the_fence_comes_before_the_word_to_stop(driven: Driven) -> None:
    """Else the worker's "cancelled" would be published, and end the job."""
    effects = lose(driven)
    kinds = [type(effect) for effect in effects if isinstance(effect, Fence | CancelOnWorker | Release)]
    assert kinds == [Fence, CancelOnWorker]


def test_a_reading_that_began_before_the_fence_does_not_count(driven: Driven) -> None:
    lose(driven)
    driven.session.heal_started()
    effects = fence(driven)
    assert of(effects, Heal)
    assert not of(driven.do(driven.session.healed(driven.now, full=False)), Acquire)
    assert of(drain(driven), Acquire)


def test_an_end_that_was_published_before_the_fence_ends_the_job(driven: Driven) -> None:
    lose(driven)
    fence(driven)
    assert not of(drain(driven, step(3), finished(4)), Acquire)
    assert driven.of("result")
    assert driven.session.open_jobs == 0


def test_a_worker_that_gave_it_up_is_not_counted_twice(driven: Driven) -> None:
    given_up = failed(3, code="draining", retryable=True)
    assert of(driven.events(given_up), Fence)
    fence(driven)
    (again,) = of(drain(driven, given_up), Acquire)
    assert (again.job.attempt, again.job.first_seq) == (1, 3)


def test_a_hole_that_the_stream_does_not_fill_ends_the_job(driven: Driven) -> None:
    """Frame 3 may be out: nobody may seal another in its place."""
    lose(driven)
    fence(driven)
    drain(driven, step(4))
    drain(driven, step(4))
    assert driven.effects[-1] == Heal(full=True)
    drain(driven, step(4), full=True)
    (error,) = driven.of("error")
    assert error["code"] == "stream_gap"
    assert not of(driven.effects, Acquire)


@pytest.mark.parametrize("state", ["running", "dispatched", "fencing"])
def test_what_may_be_lost_with_redis_ends_the_job(state: str) -> None:
    driven = Driven(holder("w1"), holder("w2"))
    if state == "dispatched":
        driven.take(of(driven.send(job(**sealed())), Acquire)[0])
    else:
        driven.start(worker_id="w1", **sealed())
        driven.events(step(1, whole=True))
    if state == "fencing":
        lose(driven)
    driven.clear()
    driven.do(driven.session.redis_back(driven.now, data_lost=True))
    (error,) = driven.of("error")
    assert (error["code"], error["status"]) == ("private_reply_lost", 502)
    assert not of(driven.tick(10.0, holder("w1"), holder("w2")), Acquire)


def test_a_fence_that_redis_does_not_confirm_ends_the_job(driven: Driven) -> None:
    lose(driven)
    driven.do(driven.session.attempts.fence_failed("j1", 0, driven.now))
    assert driven.of("error")[0]["code"] == "redis_unavailable"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_client_may_leave_meanwhile(driven: Driven, when: str) -> None:
    lose(driven)
    if when == "after":
        fence(driven)
    driven.send(Cancel(job_id="j1"))
    assert driven.session.open_jobs == 0
    fence(driven)
    assert not of(drain(driven), Acquire)
    driven.start("j2", worker_id="w2", **sealed())  # the slots and shares were given back once
    assert driven.session.open_jobs == 1


def test_what_was_begun_under_one_key_goes_on_under_it() -> None:
    driven = Driven(holder("w1", NEWER, KID), holder("w2", NEWER), holder("w3", KID))
    driven.start(worker_id="w1", **sealed(NEWER, KID))
    driven.events(step(1, whole=True))
    driven.tick(4.0, holder("w2", NEWER), holder("w3", KID))
    fence(driven)
    (again,) = of(drain(driven), Acquire)
    assert [worker_id for worker_id, _ in again.candidates] == ["w3"]


def test_a_whole_step_replaces_those_before_it(driven: Driven) -> None:
    driven.events(step(3, whole=True), step(4))
    lose(driven)
    fence(driven)
    (again,) = of(drain(driven), Acquire)
    assert again.job.resume is not None
    assert again.job.resume.steps == (b"s3", b"s4")


def test_a_successor_knows_as_much(driven: Driven) -> None:
    lose(driven)
    fence(driven)
    assert of(drain(driven), Acquire)
    entry = driven.registry["j1"]
    assert (entry.kid, entry.steps, entry.attempt) == (KID, (b"s1", b"s2"), 1)
    assert entry.tokens == ()


def test_an_attempt_that_nobody_claims_is_fenced_too() -> None:
    driven = Driven(holder("w1"), holder("w2"))
    driven.take(of(driven.send(job(**sealed())), Acquire)[0])
    effects = driven.tick(5.2, holder("w1"), holder("w2"))
    assert of(effects, Fence) == [Fence("j1", 0)]
    driven.do(driven.session.attempts.fenced("j1", 0, driven.now))
    late = [claimed(), step(1, whole=True)]  # it was claimed at the last moment
    (again,) = of(drain(driven, *late), Acquire)
    assert again.job.resume == Resume(kid=KID, steps=(b"s1",))
    assert isinstance(driven.take(again), Enqueue)
