"""A job through a real Celery worker process and a real Redis: in by message, out by events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tasks import keys
from tasks.contract import Claimed, Failed, Finished
from tests.fakes.waiting import PATIENCE_S, until
from tests.fakes.worker_child import SECRET
from tests.integration.worker_fleet import BRIDGE, Fleet

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def fleet(redis_server, tmp_path_factory) -> Iterator[Fleet]:
    fleet = Fleet(redis_server.url, tmp_path_factory.mktemp("fleet"))
    fleet.client.flushall()
    with fleet.worker("w1", slots=2):
        yield fleet
    fleet.close()


def test_a_jobs_events_come_in_order_on_channel_and_stream(fleet):
    with fleet.client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(keys.events(BRIDGE))
        pubsub.get_message(timeout=PATIENCE_S)
        fleet.submit("stream", body={"chunks": 5}, first_seq=3)
        events = fleet.finished("stream")
        heard = [pubsub.get_message(timeout=PATIENCE_S) for _ in fleet.client.xrange(keys.replay(BRIDGE))]
    assert [event.type for event in events] == ["claimed", *["chunk"] * 5, "finished"]
    assert [event.seq for event in events] == list(range(3, 10))
    said = {"worker_name": events[0].worker_name, "epoch": events[0].epoch}
    assert events[0] == Claimed(job_id="stream", attempt=0, seq=3, worker_id="w1", **said)
    assert events[-1].usage.completion_tokens == 5
    on_channel = [message["data"] for message in heard if message]
    assert on_channel == [row[b"b"] for _, row in fleet.client.xrange(keys.replay(BRIDGE))]


def test_the_slot_is_free_when_the_last_event_is_out(fleet):
    fleet.submit("slot")
    assert isinstance(fleet.finished("slot")[-1], Finished)
    assert b"slot" not in fleet.held()
    assert not fleet.client.exists(keys.job("slot"))


def test_a_pinned_job_comes_through_the_workers_own_queue(fleet):
    fleet.submit("pinned", queue=keys.worker_queue("w1"))
    assert fleet.finished("pinned")[-1].type == "finished"


def test_a_running_job_is_cancelled_and_its_slot_freed(fleet):
    fleet.submit("held", body={"hold": True})
    until(lambda: "progress" in fleet.types("held"))
    fleet.cancel("held")
    events = fleet.finished("held")
    assert (events[-1].type, events[-1].code) == ("failed", "cancelled")
    assert b"held" not in fleet.held()


@pytest.mark.parametrize("crash", [{"raise": True}, {"refuse": True}])
def test_whatever_is_raised_there_is_one_last_event_without_content(fleet, crash):
    job_id = f"crash-{next(iter(crash))}"
    fleet.submit(job_id, body=crash)
    claimed, failed = fleet.finished(job_id)
    assert isinstance(failed, Failed)
    assert failed.code == ("worker_error" if "raise" in crash else "bad_request")
    assert failed.retryable is ("raise" in crash)
    assert SECRET not in failed.message
    assert SECRET not in fleet.log("w1").read_text()
    assert claimed.seq == 0


def test_messages_that_are_nobodys_job_are_dropped(fleet):
    own = keys.worker_queue("w1")
    fleet.enqueue("never-was", 0, own)
    fleet.submit("stale", attempt=1, queue="parked")
    fleet.enqueue("stale", 0, own)
    fleet.submit("late", deadline=time.time() - 1, queue=own)
    fleet.submit("after", queue=own)
    fleet.finished("after")
    until(lambda: fleet.log("w1").read_text().count("job.dropped") == 3)
    assert [fleet.events(job) for job in ("never-was", "stale", "late")] == [[], [], []]
    assert b"late" not in fleet.held()
    assert b"stale" in fleet.held()  # attempt 1 may still come
    fleet.client.delete(keys.job("stale"), "parked")
    fleet.client.srem(keys.credits_of("w1"), "stale")


def test_a_payload_of_another_fleet_is_answered_and_not_run(fleet):
    mine, fleet.key = fleet.key, fleet.key
    from tasks.sealing import FleetKey, Sealer

    sealer, fleet._sealer = fleet._sealer, Sealer(FleetKey.generate())
    try:
        fleet.submit("foreign")
    finally:
        fleet._sealer, fleet.key = sealer, mine
    events = fleet.finished("foreign")
    assert [(event.type, event.code) for event in events] == [("failed", "seal_broken")]
    assert b"foreign" not in fleet.held()


def test_what_loads_is_consumed_and_what_unloads_is_not(fleet):
    fleet.submit("load", body={"load": "other:1b"})
    fleet.await_model("w1", "other:1b")
    fleet.submit("from-new-queue", queue="model.other:1b")
    assert fleet.finished("from-new-queue")
    fleet.submit("unload", body={"unload": "other:1b"})
    until(lambda: {model.id for model in fleet.info("w1").models} == {"fake:1b"})
    queues = fleet.inspected("active_queues")["chat@w1"]
    assert {queue["name"] for queue in queues} == {"worker.w1", "model.fake:1b"}


def test_the_heartbeat_says_who_it_is(fleet):
    info = fleet.info("w1")
    assert (info.worker_id, info.node, info.device, info.slots_total, info.draining) == (
        "w1", "wrk-test", "cpu0", 2, False,
    )  # fmt: skip
    assert info.log == str(fleet.log("w1"))
    assert json.loads(info.model_dump_json())["epoch"]
