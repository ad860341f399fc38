"""The session's inputs, driven by hand: a job from frame to result, and what else the API asks for."""

from __future__ import annotations

import logging

import pytest

from bridge.effects import Acquire, CancelOnWorker, DrainWorker, Release, StartTask, StopTask
from bridge.protocol import Ack, Cancel, Challenge, Drain, Install
from tasks.contract import InstallProgress
from tasks.errors import PendraError
from tests.bridge.builders import Driven, chunk, claimed, finished, job, only, progress, worker


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
