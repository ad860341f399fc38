"""Who is gone, what is overdue, and what a Redis that is away or silent changes, driven by hand."""

from __future__ import annotations

from bridge.effects import Acquire, CancelOnWorker, Release, SweepWorker
from bridge.fleet import Gone
from bridge.protocol import Cancel
from bridge.scheduler import NO_WORKER_GRACE_S
from bridge.supervision import CLAIM_S, REDIS_GRACE_S, SILENT_S
from tasks.keys import WORKER_LEASE_S
from tests.bridge.builders import Driven, chunk, claimed, finished, job, only, worker


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


def test_a_worker_that_says_goodbye_loses_its_jobs_at_once() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    effects = driven.do(driven.session.fleet_news(Gone("w1"), driven.now))
    assert only(effects, Acquire).candidates == (("w2", 2),)


# ------------------------------------------------------------------ timers


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
