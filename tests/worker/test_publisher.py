"""The publisher: one message a step, nothing lost and nothing out of order while Redis is away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
import redis

from tasks import keys
from tasks.contract import Chunk, Event, Failed, Finished, Job
from tasks.events import open_event, unpack
from tasks.redis_client import connect
from tasks.sealing import FleetKey, Opener, Sealer
from tests.fakes.redis_server import RedisServer
from tests.fakes.waiting import PATIENCE_S, until
from worker.publisher import Publisher

KEY = FleetKey(bytes(32))
OPENER = Opener(KEY)


def job(job_id: str = "j", bridge_id: str = "b", first_seq: int = 0) -> Job:
    return Job(job_id=job_id, model="m", body={}, created=0, bridge_id=bridge_id, first_seq=first_seq)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def publisher(client) -> Iterator[Publisher]:
    publisher = Publisher(client, "w", Sealer(KEY), worker_name="Wörker")
    publisher.start()
    yield publisher
    publisher.stop()


def batches(client: redis.Redis, bridge_id: str = "b") -> list[list[Event]]:
    """What the replay stream holds, message by message."""
    rows = client.xrange(keys.replay(bridge_id))
    return [[open_event(envelope, OPENER) for envelope in unpack(row[b"b"])] for _, row in rows]


def flat(client: redis.Redis, bridge_id: str = "b") -> list[Event]:
    return [item for batch in batches(client, bridge_id) for item in batch]


def test_a_step_is_one_message_per_bridge(client, publisher):
    replies = [publisher.open(job(f"j{n}", f"b{n % 2}")) for n in range(6)]

    def step():
        for reply in replies:
            reply.chunk("{}", (1,))
        assert threading.current_thread().name == "publisher"

    publisher.step(step)
    until(lambda: batches(client, "b0") and batches(client, "b1"))
    assert [[item.job_id for item in batch] for batch in batches(client, "b0")] == [["j0", "j2", "j4"]]
    assert [[item.job_id for item in batch] for batch in batches(client, "b1")] == [["j1", "j3", "j5"]]


def test_channel_and_stream_carry_the_same_bytes(client, publisher):
    with client.pubsub() as pubsub:
        pubsub.subscribe(keys.events("b"))
        assert pubsub.get_message(timeout=PATIENCE_S)["type"] == "subscribe"
        publisher.open(job()).finish("{}")
        message = pubsub.get_message(timeout=PATIENCE_S)
    assert message["data"] == client.xrange(keys.replay("b"))[0][1][b"b"]
    assert 0 < client.ttl(keys.replay("b")) <= keys.REPLAY_TTL_S


def test_the_last_event_frees_the_slot_and_the_waiting_thread(client, publisher):
    client.hset(keys.job("j"), mapping={"attempt": 0, "credit": "w"})
    client.sadd(keys.credits_of("w"), "j")
    reply = publisher.open(job(first_seq=5))
    reply.claimed()
    assert reply.wait(0) is False
    reply.finish("{}")
    assert reply.wait(PATIENCE_S) is True
    assert [item.seq for item in flat(client)] == [5, 6]
    assert not client.exists(keys.job("j"), keys.credits_of("w"))


def test_calls_of_many_threads_keep_each_jobs_order(client, publisher):
    def run(reply):
        for _ in range(50):
            reply.chunk("{}")
        reply.finish()

    replies = [publisher.open(job(f"j{n}")) for n in range(8)]
    threads = [threading.Thread(target=run, args=(reply,)) for reply in replies]
    for thread in threads:
        thread.start()
    assert all(reply.wait(PATIENCE_S) for reply in replies)
    for thread in threads:
        thread.join()
    for n in range(8):
        own = [item for item in flat(client) if item.job_id == f"j{n}"]
        assert [item.seq for item in own] == list(range(51))
        assert isinstance(own[-1], Finished)


def test_a_step_that_raises_does_not_silence_the_next(client, publisher, caplog):
    reply = publisher.open(job())

    def broken():
        reply.chunk("{}")
        raise RuntimeError("the secret prompt")

    publisher.step(broken)
    publisher.step(reply.finish)
    assert reply.wait(PATIENCE_S)
    assert [type(item) for item in flat(client)] == [Chunk, Finished]
    assert "publisher.step_failed" in caplog.text
    assert "secret" not in caplog.text


def test_text_that_is_not_utf8_fails_its_own_job_only(client, publisher):
    good, bad = publisher.open(job("good")), publisher.open(job("bad"))
    publisher.step(lambda: (good.finish("{}"), bad.finish("\ud800")))
    assert good.wait(PATIENCE_S)
    assert bad.wait(PATIENCE_S)
    assert {item.job_id: type(item) for item in flat(client)} == {"good": Finished, "bad": Failed}


def test_stopping_sends_what_waits(client):
    publisher = Publisher(client, "w", Sealer(KEY))
    publisher.start()
    reply = publisher.open(job())
    for _ in range(1000):
        reply.chunk("{}")
    publisher.stop()
    assert len(flat(client)) == 1000


@pytest.fixture
def mortal(tmp_path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def test_while_redis_is_away_nothing_is_lost_or_out_of_order(mortal):
    with connect(mortal.url) as client:
        publisher = Publisher(client, "w", Sealer(KEY))
        publisher.start()
        reply = publisher.open(job())
        reply.claimed()
        until(lambda: flat(client))
        mortal.kill()
        for _ in range(500):
            reply.chunk("{}")
        reply.finish()
        assert reply.wait(0.2) is False
        mortal.start()
        assert reply.wait(PATIENCE_S) is True
        assert [item.seq for item in flat(client)] == list(range(502)), "also what Redis died with"
        assert client.ttl(keys.replay("b")) > 0
        publisher.stop()


def test_a_redis_that_died_while_nobody_spoke_hears_the_end_again(mortal):
    with connect(mortal.url) as client:
        publisher = Publisher(client, "w", Sealer(KEY))
        publisher.start()
        ended, runs = publisher.open(job("ended")), publisher.open(job("runs"))
        ended.finish()
        runs.claimed()
        assert ended.wait(PATIENCE_S)
        until(lambda: len(flat(client)) == 2)
        mortal.kill()
        mortal.start()
        publisher.resend()
        until(lambda: len(flat(client)) == 3)
        assert [(item.job_id, item.type) for item in flat(client)] == [
            ("ended", "finished"),
            ("runs", "claimed"),
            ("runs", "progress"),
        ]
        assert publisher.unanswered() == [runs]
        publisher.stop()


def test_beyond_the_bound_the_oldest_go_and_nobody_waits_for_ever(mortal, caplog):
    caplog.set_level(logging.ERROR)
    with connect(mortal.url) as client:
        publisher = Publisher(client, "w", Sealer(KEY), ring_bytes=4000)
        publisher.start()
        mortal.kill()
        first = publisher.open(job("first"))
        first.finish("{}")
        last = publisher.open(job("last"))
        for _ in range(50):
            last.chunk("x" * 200)
            until(publisher._inbox.empty)
        assert first.wait(PATIENCE_S) is True  # given up
        assert "publisher.overflow" in caplog.text
        mortal.start()
        last.finish()
        assert last.wait(PATIENCE_S) is True
        assert flat(client)[-1].seq == 50
        publisher.stop()


def test_a_stop_while_redis_is_away_gives_up_in_time(mortal, caplog):
    with connect(mortal.url) as client:
        publisher = Publisher(client, "w", Sealer(KEY))
        publisher.start()
        mortal.kill()
        reply = publisher.open(job())
        reply.finish()
        publisher.stop(timeout_s=0.2)
        assert reply.wait(0) is True
        assert "publisher.gave_up" in caplog.text
        mortal.start()


def test_a_redis_that_refuses_does_not_block_what_comes_after(client, publisher, caplog):
    client.set(keys.replay("odd"), "not a stream")
    refused, fine = publisher.open(job("x", "odd")), publisher.open(job("y"))
    refused.finish()
    fine.finish()
    assert refused.wait(PATIENCE_S)
    assert fine.wait(PATIENCE_S)
    assert "publisher.rejected" in caplog.text
