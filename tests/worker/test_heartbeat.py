"""The heartbeat: visible, gone when it says so, and whole again after Redis lost everything."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import redis

from tasks import keys
from tasks.contract import WorkerInfo
from tasks.redis_client import connect
from tests.fakes.redis_server import RedisServer
from tests.fakes.waiting import PATIENCE_S, until
from worker.heartbeat import Heartbeat


def info(slots_busy: int = 0) -> WorkerInfo:
    return WorkerInfo(
        worker_id="w",
        epoch="e1",
        name="n",
        node="h",
        pid=1,
        version="0",
        device="cpu0",
        slots_total=2,
        slots_busy=slots_busy,
    )


class Parts:
    """What the process knows; the heartbeat asks for it."""

    def __init__(self) -> None:
        self.info = info()
        self.running: set[tuple[str, int]] = set()

    def heartbeat(self, client: redis.Redis) -> Heartbeat:
        return Heartbeat(client, lambda: self.info, lambda: self.running)


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


def listed(client: redis.Redis) -> WorkerInfo | None:
    text = client.hget(keys.WORKERS, "w")
    return WorkerInfo.model_validate_json(text) if text else None


def test_a_beat_writes_lease_list_and_channel(client, parts):
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(keys.FLEET)
        pubsub.get_message(timeout=PATIENCE_S)
        parts.heartbeat(client).beat()
        said = pubsub.get_message(timeout=PATIENCE_S)
    assert client.get(keys.worker_lease("w")) == b"e1"
    assert 0 < client.pttl(keys.worker_lease("w")) <= keys.WORKER_LEASE_S * 1000
    assert listed(client) == parts.info
    assert WorkerInfo.model_validate_json(said["data"]) == parts.info


def test_the_first_beat_frees_the_slots_of_an_earlier_life_and_later_ones_do_not(client, parts):
    client.sadd(keys.credits_of("w"), "from before")
    heartbeat = parts.heartbeat(client)
    heartbeat.start()
    until(lambda: heartbeat.alive)
    assert not client.exists(keys.credits_of("w"))
    client.sadd(keys.credits_of("w"), "new")
    parts.info = info(slots_busy=1)
    heartbeat.poke()
    until(lambda: (listed(client) or parts.info).slots_busy == 1 and listed(client))
    assert client.smembers(keys.credits_of("w")) == {b"new"}
    heartbeat.stop()


def test_a_poke_does_not_wait_for_the_next_second(client, parts, monkeypatch):
    monkeypatch.setattr(keys, "HEARTBEAT_S", 600.0)
    heartbeat = parts.heartbeat(client)
    heartbeat.start()
    until(lambda: listed(client))
    for busy in range(1, 6):
        parts.info = info(slots_busy=busy)
        heartbeat.poke()
        until(lambda busy=busy: listed(client).slots_busy == busy)
    heartbeat.stop()


def test_many_pokes_share_a_beat(client, parts):
    heartbeat = parts.heartbeat(client)
    heartbeat.start()
    until(lambda: heartbeat.alive)
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(keys.FLEET)
        pubsub.get_message(timeout=PATIENCE_S)
        for busy in range(1, 200):
            parts.info = info(slots_busy=busy)
            heartbeat.poke()
        until(lambda: listed(client).slots_busy == 199)
        heard = 0
        while pubsub.get_message(timeout=0.05):
            heard += 1
    assert heard < 50  # five a second at most
    heartbeat.stop()


def test_a_clean_end_takes_the_worker_off_the_list(client, parts):
    heartbeat = parts.heartbeat(client)
    heartbeat.start()
    until(lambda: listed(client))
    client.sadd(keys.credits_of("w"), "j")
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(keys.FLEET)
        pubsub.get_message(timeout=PATIENCE_S)
        heartbeat.stop()
        said = until(lambda: [m for m in [pubsub.get_message(timeout=PATIENCE_S)] if m and b"gone" in m["data"]])
    assert json.loads(said[0]["data"]) == {"gone": "w"}
    assert not client.exists(keys.worker_lease("w"), keys.WORKERS, keys.credits_of("w"))


def test_after_redis_lost_everything_it_is_all_there_again(tmp_path, parts, caplog):
    caplog.set_level(logging.INFO)
    with RedisServer(tmp_path) as server, connect(server.url) as client:
        heartbeat = parts.heartbeat(client)
        heartbeat.start()
        until(lambda: heartbeat.alive)
        parts.running = {("j1", 0), ("j2", 3)}
        server.kill()
        until(lambda: not heartbeat.alive)
        server.start()
        until(lambda: client.scard(keys.credits_of("w")) == 2)
        assert client.get(keys.worker_lease("w")) == b"e1"
        assert listed(client) == parts.info
        heartbeat.stop()
    assert caplog.text.count("heartbeat.lost") == 1


def test_a_credit_written_again_goes_when_its_job_ends(client, parts):
    heartbeat = parts.heartbeat(client)
    heartbeat._up = True  # it has beaten before
    parts.running = {("j1", 0)}
    heartbeat.beat()
    assert client.smembers(keys.credits_of("w")) == {b"j1"}
    parts.running = set()
    heartbeat.beat()
    assert not client.exists(keys.credits_of("w"))


def test_two_processes_under_one_id_are_reported(client, parts, caplog):
    heartbeat = parts.heartbeat(client)
    heartbeat._up = True
    client.set(keys.worker_lease("w"), "another")
    heartbeat.beat()
    assert "heartbeat.twin" in caplog.text


def test_a_restart_within_the_old_lease_is_no_twin(client, parts, caplog):
    client.set(keys.worker_lease("w"), "life before")
    parts.heartbeat(client).beat()
    assert "heartbeat.twin" not in caplog.text


def test_stopping_without_redis_takes_no_longer_than_asked(tmp_path, parts):
    with RedisServer(tmp_path) as server, connect(server.url) as client:
        heartbeat = parts.heartbeat(client)
        heartbeat.start()
        until(lambda: heartbeat.alive)
        server.kill()
        heartbeat.stop(1.0)
        assert not heartbeat._thread.is_alive()
        server.start()
