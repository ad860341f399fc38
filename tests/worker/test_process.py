"""The process: what it tells the fleet, and how it comes and goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tasks import keys
from tasks.contract import Job, ModelInfo
from tasks.errors import ConfigError, WorkerError
from tasks.events import open_event, unpack
from tasks.redis_client import connect
from tasks.sealing import FleetKey, Opener
from tasks.settings import load_settings
from tests.fakes.waiting import PATIENCE_S, until
from worker import process as process_module
from worker.capacity import MAX_SLOTS
from worker.process import Process, current, slots_of


class Runtime:
    def __init__(self, settings, slots, publisher, changed) -> None:
        self.loaded: set[str] = set()
        self.changed = changed
        self.closed = threading.Event()
        self.preload_error: Exception | None = None

    def models(self):
        return (ModelInfo(id="on-disk"), *(ModelInfo(id=model, loaded=True) for model in sorted(self.loaded)))

    def preload(self, models):
        if self.preload_error:
            raise self.preload_error
        self.loaded |= set(models)
        self.changed()

    def stats(self):
        return {}

    def loads(self):
        return ()

    def close(self):
        self.closed.set()


class Queues:
    """What Celery's consumer was asked to listen to."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()

    def __call__(self, queues) -> None:
        self.wanted = set(queues)


@pytest.fixture
def settings(redis_url, tmp_path):
    return load_settings(
        home=tmp_path,
        worker_id="wrk-1",
        redis_url=redis_url,
        fleet_key=FleetKey.generate().to_base64(),
        worker_name="Wörker",
        preload=("m:1b",),
        device="gpu3",
        max_concurrent=4,
    )


@pytest.fixture
def process(settings) -> Iterator[Process]:
    process = Process(settings, 4, Runtime)
    yield process
    process.stop()


@pytest.fixture
def client(redis_url):
    with connect(redis_url) as client:
        yield client


def test_it_is_seen_at_once_and_serves_when_its_models_are_in(process, client):
    queues = Queues()
    process.start(queues)
    until(lambda: client.exists(keys.worker_lease("wrk-1-gpu3")))
    until(lambda: queues.wanted == {"model.m:1b"})
    until(lambda: b'"m:1b"' in (client.hget(keys.WORKERS, "wrk-1-gpu3") or b""))


def test_what_it_says_of_itself(process, settings):
    info = process.info()
    assert (info.worker_id, info.node, info.name, info.device) == ("wrk-1-gpu3", "wrk-1", "Wörker", "gpu3")
    assert (info.slots_total, info.slots_busy, info.draining) == (4, 0, False)
    assert [model.id for model in info.models] == ["on-disk"]
    assert info.epoch != Process(settings, 4, Runtime).info().epoch
    process.running.enter("j", 0)
    assert process.info().slots_busy == 1


def test_draining_stops_new_work_and_tells_the_fleet(process, client):
    queues = Queues()
    process.start(queues)
    until(lambda: queues.wanted)
    until(lambda: client.publish(keys.control("wrk-1-gpu3"), '{"op": "drain"}'))
    until(lambda: queues.wanted == set())
    until(lambda: b'"draining":true' in (client.hget(keys.WORKERS, "wrk-1-gpu3") or b""))


def test_what_still_runs_at_the_grace_limit_is_given_back(settings, client):
    process = Process(settings.model_copy(update={"grace_seconds": 0.2}), 4, Runtime)
    process.start(Queues())
    token = process.running.enter("j", 0)
    reply = process.publisher.open(Job(job_id="j", model="m:1b", body={}, created=0, bridge_id="b"))
    reply.claimed()
    process.drain()
    assert token.wait(PATIENCE_S)
    assert reply.wait(PATIENCE_S)
    opener = Opener(*settings.fleet_keys())
    rows = client.xrange(keys.replay("b"))
    events = [open_event(envelope, opener) for _, row in rows for envelope in unpack(row[b"b"])]
    assert [event.type for event in events] == ["claimed", "failed"]
    assert (events[-1].code, events[-1].retryable) == ("draining", True)
    process.stop()


@pytest.mark.parametrize(("op", "left"), [("drain", False), ("leave", True)])
def test_only_who_is_asked_to_leave_ends(process, client, op, left):
    asked = threading.Event()
    process.leave = asked.set
    process.start(Queues())
    until(lambda: client.publish(keys.control("wrk-1-gpu3"), f'{{"op": "{op}"}}'))
    until(lambda: process.info().draining)
    assert asked.wait(PATIENCE_S if left else 0.1) is left


def test_stopping_frees_the_model_and_says_goodbye(process, client):
    process.start(Queues())
    until(lambda: client.exists(keys.worker_lease("wrk-1-gpu3")))
    process.stop()
    process.stop()
    assert process.runtime.closed.is_set()
    assert not client.exists(keys.worker_lease("wrk-1-gpu3"), keys.WORKERS)


def test_a_model_that_does_not_load_does_not_end_the_worker(process, client, caplog):
    process.runtime.preload_error = WorkerError("the file is cut short", code="model_corrupt")
    process.start(Queues())
    until(lambda: "worker.preload_failed" in caplog.text)
    assert "model_corrupt" in caplog.text
    until(lambda: client.exists(keys.worker_lease("wrk-1-gpu3")))


def test_an_unknown_fault_of_loading_is_told_by_its_place(process, caplog):
    process.runtime.preload_error = ValueError("secret")
    process.start(Queues())
    until(lambda: "worker.preload_failed" in caplog.text)
    assert "secret" not in caplog.text


def test_slots_come_from_the_command_line_then_the_setting(settings):
    assert slots_of(settings, 2) == 2
    assert slots_of(settings, None) == 4
    assert slots_of(settings, 1000) == MAX_SLOTS


def test_outside_a_worker_there_is_no_process(monkeypatch):
    monkeypatch.setattr(process_module, "_current", None)
    with pytest.raises(ConfigError, match="no serving process"):
        current()
