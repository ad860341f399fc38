"""One job's way through the worker: exactly one last event, whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tasks import keys
from tasks.contract import Job
from tasks.errors import BadRequestError, WorkerError
from tasks.events import open_event, unpack
from tasks.redis_client import connect
from tasks.sealing import FleetKey, Opener, Sealer, payload_aad
from worker.private.keys import Keyring
from worker.publisher import Publisher
from worker.running import Running
from worker.serve import Server

KEY = FleetKey(bytes(32))
SECRET = "the-patient"


class World:
    """A server around a runtime that is one function."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.running = Running()
        self.keyring = Keyring(Path("/nonexistent"))
        self.does: Callable = lambda _job, reply, _cancel: reply.finish("{}")
        self.publisher = Publisher(client, "w", Sealer(KEY))
        self.publisher.start()
        self.server = Server(client, "w", Opener(KEY), self.publisher, self, self.running, self.keyring)

    def serve(self, job, reply, cancel):
        """What the server takes for its runtime."""
        self.does(job, reply, cancel)

    def lay_down(self, plaintext: bytes | None = None, *, key: FleetKey = KEY, attempt: int = 0) -> None:
        """What the bridge's acquire script leaves behind."""
        job = Job(job_id="j", attempt=attempt, model="m", body={"x": SECRET}, created=0, bridge_id="b")
        sealed = Sealer(key).seal(plaintext or job.model_dump_json().encode(), payload_aad("j"))
        row = {"payload": sealed, "attempt": attempt, "bridge": "b", "deadline": 0, "worker": "", "credit": "w"}
        self.client.hset(keys.job("j"), mapping=row)

    @property
    def said(self) -> list:
        rows = self.client.xrange(keys.replay("b"))
        return [open_event(one, Opener(KEY)) for _, row in rows for one in unpack(row[b"b"])]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.said]


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    with connect(redis_url) as client:
        world = World(client)
        yield world
        world.publisher.stop()


def test_a_job_that_goes_well(world):
    world.lay_down()
    world.server.serve("j", 0)
    assert world.types == ["claimed", "finished"]
    assert not world.client.exists(keys.job("j"), keys.credits_of("w"))
    assert len(world.running) == 0


def test_it_waits_until_the_last_event_is_out(world):
    seen = []

    def does(job, reply, cancel):
        world.publisher.step(reply.finish)
        seen.append(reply)

    world.does = does
    world.lay_down()
    world.server.serve("j", 0)
    assert seen[0].wait(0) is True


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (BadRequestError("too long", code="context_length_exceeded"), "context_length_exceeded", False),
        (WorkerError("full", code="out_of_memory"), "out_of_memory", True),
        (ValueError(SECRET), "worker_error", True),
    ],
)
def test_what_is_raised_becomes_the_last_event(world, caplog, error, code, retryable):
    def does(job, reply, cancel):
        raise error

    world.does = does
    world.lay_down()
    world.server.serve("j", 0)
    assert world.types == ["claimed", "failed"]
    assert (world.said[-1].code, world.said[-1].retryable) == (code, retryable)
    assert SECRET not in world.said[-1].message + caplog.text


def test_after_an_answer_an_exception_is_only_logged(world, caplog):
    def does(job, reply, cancel):
        reply.finish("{}")
        raise ValueError(SECRET)

    world.does = does
    world.lay_down()
    world.server.serve("j", 0)
    assert world.types == ["claimed", "finished"]
    assert "job.crashed" in caplog.text


def test_a_runtime_that_says_nothing_is_answered_for(world, caplog):
    world.does = lambda *_: None
    world.lay_down()
    world.server.serve("j", 0)
    assert world.types == ["claimed", "failed"]
    assert "job.unanswered" in caplog.text


def test_a_worker_without_a_demanded_label_gives_the_job_back_unread(world):
    world.does = lambda *_: pytest.fail("it must not be served")
    job = Job(job_id="j", model="m", body={"x": SECRET}, created=0, bridge_id="b", labels=("phi",))
    world.lay_down(job.model_dump_json().encode())
    world.server.serve("j", 0)
    assert world.types == ["claimed", "failed"]
    assert (world.said[-1].code, world.said[-1].retryable) == ("no_labelled_worker", True)


def test_a_job_of_a_far_version_is_refused_in_words(world):
    job = Job(v=5, job_id="j", model="m", body={}, created=0, bridge_id="b")
    world.lay_down(job.model_dump_json().encode())
    world.server.serve("j", 0)
    (said,) = world.said
    assert (said.code, said.retryable) == ("version_mismatch", True)
    assert "upgrade the older" in said.message


def test_nobodys_job_leaves_no_trace(world):
    world.server.serve("j", 0)
    world.lay_down(attempt=1)
    world.server.serve("j", 0)
    assert world.said == []
    assert len(world.running) == 0


def test_a_message_delivered_twice_runs_once(world):
    def does(job, reply, cancel):
        world.server.serve("j", 0)
        reply.finish()

    world.does = does
    world.lay_down()
    world.server.serve("j", 0)
    assert world.types == ["claimed", "finished"]


def test_a_job_can_be_cancelled_before_it_is_claimed(world, monkeypatch):
    seen = []
    world.does = lambda _job, reply, cancel: (seen.append(cancel.cancelled), reply.finish())
    claim = world.server._scripts.claim

    def cancel_then_claim(*args: object):
        world.running.cancel("j", 0)
        return claim(*args)

    monkeypatch.setattr(world.server._scripts, "claim", cancel_then_claim)
    world.lay_down()
    world.server.serve("j", 0)
    assert seen == [True]


@pytest.mark.parametrize(
    ("lay", "code"),
    [
        ({"key": FleetKey(bytes([1] * 32))}, "seal_broken"),
        ({"plaintext": b'{"v": 99}'}, "version_mismatch"),
        ({"plaintext": b"not json"}, "version_mismatch"),
    ],
)
def test_a_job_that_cannot_be_read_is_answered(world, caplog, lay, code):
    world.lay_down(**lay)
    world.server.serve("j", 0)
    assert [(event.type, event.code) for event in world.said] == [("failed", code)]
    assert not world.client.exists(keys.job("j"))
    assert "job.unreadable" in caplog.text


def test_a_claim_is_tried_again_while_redis_restarts(world, monkeypatch):
    import worker.serve

    monkeypatch.setattr(worker.serve, "_CLAIM_TRIES_S", (0.001, 0.001))
    claim, fails = world.server._scripts.claim, iter([redis.ConnectionError(), redis.TimeoutError()])

    def flaky(*args: object):
        for error in fails:
            raise error
        return claim(*args)

    monkeypatch.setattr(world.server._scripts, "claim", flaky)
    world.lay_down()
    world.server.serve("j", 0)
    assert world.types == ["claimed", "finished"]


@pytest.mark.parametrize("error", [redis.ConnectionError(), redis.exceptions.NoPermissionError()])
def test_a_claim_that_cannot_be_made_is_left_to_the_bridge(world, monkeypatch, caplog, error):
    import worker.serve

    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(worker.serve, "_CLAIM_TRIES_S", (0.001,))

    def broken(*args: object):
        raise error

    monkeypatch.setattr(world.server._scripts, "claim", broken)
    world.server.serve("j", 0)
    assert "job.unclaimed" in caplog.text
    assert len(world.running) == 0
