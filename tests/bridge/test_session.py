"""The session's rules about jobs, workers and Redis, driven by hand."""

from __future__ import annotations

import logging

import pytest

from bridge.effects import Acquire, CancelOnWorker, DrainWorker, Release, StartTask, StopTask, SweepWorker
from bridge.fleet import Gone
from bridge.protocol import Ack, Cancel, Challenge, Drain, Install
from bridge.scheduler import NO_WORKER_GRACE_S
from bridge.supervision import CLAIM_S, MAX_HANDOVERS, MAX_LOSSES, REDIS_GRACE_S, SILENT_S
from tasks.contract import InstallProgress, Resume
from tasks.errors import PendraError
from tasks.keys import WORKER_LEASE_S
from tests.bridge.builders import Driven, chunk, claimed, failed, finished, job, only, progress, worker


def test_a_job_from_frame_to_result() -> None:
    driven = Driven(worker())
    acquire = only(driven.send(job(body={"messages": [1]}, deadline=None)), Acquire)
    assert acquire.candidates == (("w1", 2),)
    assert (acquire.job.body, acquire.job.bridge_id, acquire.job.first_seq) == ({"messages": [1]}, "b1", 0)
    enqueue = driven.take(acquire)
    assert (enqueue.queue, enqueue.attempt, enqueue.model) == ("model.m", 0, "m")
    driven.events(claimed())
    driven.events(progress(seq=1))
    driven.events(chunk(2, "a"), chunk(3, "b"), finished(4))
    assert driven.seqs() == [0, 1, 2, 3, 4]
    assert driven.text() == "ab"
    kinds = [f["type"] for f in driven.frames if f["type"] not in {"capacity", "workers"}]
    assert kinds == ["accepted", "progress", "progress", "chunk", "usage", "result"]
    (result,) = driven.of("result")
    assert (result["worker_id"], result["worker_name"], result["worker_version"]) == ("w1", "W1", "1.2")
    assert result["queue_wait_ms"] == 0
    assert driven.of("usage")[0]["usage"]["prompt_tokens"] == 3
    assert driven.session.open_jobs == 0


def test_one_message_of_many_jobs_is_one_chunk_frame() -> None:
    driven = Driven(worker(slots=3))
    for name in ("a", "b", "c"):
        driven.start(name)
    driven.clear()
    driven.events(chunk(1, "1", "a"), chunk(1, "2", "b"), finished(2, "b"), chunk(1, "3", "c"), chunk(2, "4", "a"))
    assert [f["type"] for f in driven.frames] == ["chunk", "usage", "result"]
    assert driven.text("a") == "14"


def test_a_pinned_job_goes_through_the_workers_own_queue() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    acquire = only(driven.send(job(pin="w2")), Acquire)
    assert driven.take(acquire).queue == "worker.w2"


def test_the_next_job_goes_when_a_slot_is_free() -> None:
    driven = Driven(worker(slots=1))
    driven.start("a")
    assert driven.send(job("b")) == []
    assert only(driven.events(finished(1, "a")), Acquire).job.job_id == "b"


# ------------------------------------------------------------------ cancel


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


# ------------------------------------------------------------------ lost workers


def test_a_silent_redis_is_no_proof_that_a_worker_is() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start()
    driven.tick(WORKER_LEASE_S + 1, silent=True)  # Redis is frozen: nobody is heard, not even ourselves
    driven.tick(WORKER_LEASE_S - 0.5)  # it is back, with beats still on their way
    assert driven.session.open_jobs == 1
    assert not [effect for effect in driven.effects if isinstance(effect, SweepWorker)]
    driven.tick(2.0)  # now it is them
    assert {e.worker_id for e in driven.effects if isinstance(e, SweepWorker)} == {"w1", "w2"}


def test_a_cancelled_job_whose_worker_dies_before_it_obeys_gives_its_slot_back() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start()
    driven.send(Cancel(job_id="j1"))
    driven.clear()
    driven.do(driven.session.fleet_news(Gone("w1"), driven.now))
    assert Release("j1", 0) in driven.effects


def test_a_lapsed_lease_gives_an_unstarted_job_to_another_worker() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    effects = driven.tick(4.0, worker("w2"))
    assert SweepWorker("w1") in effects
    assert Release("j1", 0) in effects
    again = only(effects, Acquire)
    assert (again.job.attempt, again.job.first_seq, again.candidates) == (1, 1, (("w2", 2),))
    driven.take(again)
    driven.events(claimed(seq=1, attempt=1, worker_id="w2"), chunk(2, attempt=1), finished(3, attempt=1))
    assert driven.seqs() == [0, 1, 2, 3]
    assert driven.of("result")[0]["worker_id"] == "w2"


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


def test_a_worker_that_says_goodbye_loses_its_jobs_at_once() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    effects = driven.do(driven.session.fleet_news(Gone("w1"), driven.now))
    assert only(effects, Acquire).candidates == (("w2", 2),)


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


def test_a_job_nobody_claims_is_dispatched_anew() -> None:
    driven = Driven(worker())
    driven.take(only(driven.send(job()), Acquire))
    effects = driven.tick(CLAIM_S + 0.1, worker())
    assert effects[0] == Release("j1", 0)
    assert only(effects, Acquire).job.attempt == 1


def test_a_bridge_that_was_slow_reads_on_before_it_takes_a_job_for_lost() -> None:
    driven = Driven(worker())
    driven.take(only(driven.send(job()), Acquire))
    driven.tick(0.1, worker())
    driven.now += CLAIM_S + 1
    assert driven.tick(0.0, worker()) == []
    assert driven.events(claimed()) == []
    assert driven.tick(2 * CLAIM_S, worker()) == []


def test_a_job_is_not_taken_for_lost_while_those_before_it_are_claimed_late() -> None:
    driven = Driven(worker())
    for name in "ab":
        driven.take(only(driven.send(job(name)), Acquire))
    driven.tick(CLAIM_S - 0.5, worker())
    driven.events(claimed("a"))
    assert driven.tick(1.0, worker()) == [], "b is behind a, whose claim took so long"
    assert only(driven.tick(CLAIM_S + 0.1, worker()), Acquire).job.job_id == "b", "now nothing moves any more"


def test_a_job_claimed_by_a_worker_we_never_hear_of_is_lost() -> None:
    driven = Driven(worker("w1"))
    driven.take(only(driven.send(job()), Acquire))
    driven.events(claimed(worker_id="ghost"), worker_id="ghost")
    effects = driven.tick(3.2, worker("w1"))
    assert only(effects, Acquire).job.attempt == 1


def test_waiting_jobs_end_when_no_worker_comes_back() -> None:
    driven = Driven(worker(slots=1))
    driven.start("a")
    driven.send(job("b"))
    driven.do(driven.session.fleet_news(Gone("w1"), driven.now))
    driven.tick(NO_WORKER_GRACE_S + 1)
    assert {(f["job_id"], f["code"]) for f in driven.of("error")} == {("a", "no_worker"), ("b", "no_worker")}


def test_a_bridge_that_slept_does_not_declare_its_workers_dead() -> None:
    driven = Driven(worker())
    driven.start()
    driven.tick()
    driven.now += 60
    assert driven.tick() == []


def test_a_deadline_ends_a_job_wherever_it_is() -> None:
    driven = Driven(worker(slots=1))
    driven.start("runs", deadline=driven.wall() + 1)
    driven.send(job("waits", deadline=driven.wall() + 1))
    effects = driven.tick(1.1, worker(slots=1))
    assert effects == [CancelOnWorker("w1", "runs", 0)]
    assert [(f["job_id"], f["status"]) for f in driven.of("error")] == [("runs", 504), ("waits", 504)]


# ------------------------------------------------------------------ Redis


def test_while_redis_is_away_no_lease_is_judged_and_nothing_goes() -> None:
    driven = Driven(worker())
    driven.start("a")
    driven.session.redis_lost(driven.now)
    assert driven.send(job("b")) == []
    assert driven.tick(REDIS_GRACE_S - 1) == []
    effects = driven.do(driven.session.redis_back(driven.now, data_lost=False))
    assert only(effects, Acquire).job.job_id == "b"
    assert driven.of("error") == []


def test_jobs_do_not_wait_for_redis_for_ever() -> None:
    driven = Driven(worker())
    driven.session.redis_lost(driven.now)
    driven.send(job("a"))
    driven.tick(REDIS_GRACE_S + 0.1)
    driven.send(job("b"))
    assert [(f["job_id"], f["code"]) for f in driven.of("error")] == [
        ("a", "redis_unavailable"),
        ("b", "redis_unavailable"),
    ]


def test_messages_that_redis_lost_are_sent_again() -> None:
    driven = Driven(worker())
    driven.take(only(driven.send(job()), Acquire))
    effects = driven.do(driven.session.redis_back(driven.now, data_lost=True))
    assert only(effects, Acquire).job.attempt == 1


def test_a_running_job_heard_of_again_goes_on_and_a_silent_one_is_repeated() -> None:
    driven = Driven(worker(slots=2))
    driven.start("talks")
    driven.start("silent")
    driven.do(driven.session.redis_back(driven.now, data_lost=True))
    driven.events(chunk(1, job_id="talks"))
    effects = driven.tick(SILENT_S + 0.1, worker(slots=2))
    again = only(effects, Acquire)
    assert (again.job.job_id, again.job.attempt) == ("silent", 1)
    assert CancelOnWorker("w1", "silent", 0) in effects


# ------------------------------------------------------------------ the rest


def test_one_worker_is_told_to_drain_and_gets_nothing_more() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    assert driven.send(Drain(worker_id="w1")) == [DrainWorker("w1")]
    assert only(driven.send(job()), Acquire).candidates == (("w2", 2),)
    assert driven.send(Drain(worker_id="w9")) == []


def test_at_shutdown_every_open_job_ends() -> None:
    driven = Driven(worker(slots=2))
    driven.start("runs")
    driven.take(only(driven.send(job("dispatched")), Acquire))
    driven.send(job("waits"))
    effects = driven.do(driven.session.shutdown(driven.now))
    assert effects == [CancelOnWorker("w1", "runs", 0), Release("dispatched", 0)]
    assert {f["job_id"] for f in driven.of("error")} == {"runs", "dispatched", "waits"}
    assert driven.session.open_jobs == 0


def test_an_install_is_followed_to_its_end() -> None:
    driven = Driven(worker())
    (start,) = driven.send(Install(request_id="r1", model="m"))
    assert isinstance(start, StartTask)
    assert driven.session.install_tasks == (start.task_id,)
    driven.do(driven.session.install_progress(start.task_id, InstallProgress(model="m", node="n", stage="s"), 0.0))
    (stop,) = driven.send(Cancel(job_id="r1"))
    assert stop == StopTask(start.task_id, start.node)
    problem = PendraError("stopped", code="cancelled")
    driven.do(driven.session.install_ended(start.task_id, None, problem, driven.now))
    assert [frame["stage"] for frame in driven.of("progress")] == ["s"]
    (error,) = driven.of("error")
    assert (error["job_id"], error["code"], error["status"]) == ("r1", "cancelled", 499)


def test_a_frame_out_of_place_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pendra.bridge")
    assert Driven().send(Challenge(nonce="n", time=0.0)) == []
    assert [getattr(r, "action", "") for r in caplog.records] == ["frame.unexpected"]


def test_nothing_of_ten_thousand_jobs_is_left() -> None:
    driven = Driven(worker(slots=4))
    for n in range(10_000):
        name = f"j{n}"
        driven.start(name)
        driven.events(chunk(1, "x", name), finished(2, name))
        driven.send(Ack(job_id=name, seq=2))
        driven.clear()
    ledger = driven.session._ledger
    assert not driven.registry
    assert not list(ledger.jobs)
    assert ledger.jobs._ended_chars == 0
    assert not ledger.fleet._holder
    assert not ledger.scheduler._lanes
