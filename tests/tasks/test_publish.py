"""What a private job's events must meet to be published, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from tasks import keys
from tasks.redis_client import connect
from tasks.scripts import Guard, Published, WorkerScripts

GUARD = Guard("j1", 0, "r1", 0, 2)


class World:
    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._scripts = WorkerScripts(client)
        self.attempt("j1", 0)

    def attempt(self, job_id: str, attempt: int) -> None:
        self.client.hset(keys.job(job_id), "attempt", attempt)

    def publish(self, guard: Guard, data: bytes = b"data", pieces: tuple[tuple[str, bytes], ...] = ()) -> Published:
        pipe = self.client.pipeline(transaction=False)
        self._scripts.publish(pipe, guard, "b1", data, pieces)
        return Published(pipe.execute()[0])

    @property
    def out(self) -> list[bytes]:
        return [row[b"b"] for _, row in self.client.xrange(keys.replay("b1"))]


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    with connect(redis_url) as client:
        yield World(client)


def test_frames_go_out_in_order_to_stream_and_channel(world):
    with world.client.pubsub() as pubsub:
        pubsub.subscribe(keys.events("b1"))
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"
        assert world.publish(GUARD, b"one") is Published.NOW
        assert pubsub.get_message(timeout=5)["data"] == b"one"
    assert world.publish(replace(GUARD, first=2, after=3), b"two") is Published.NOW
    assert world.out == [b"one", b"two"]
    assert 0 < world.client.ttl(keys.private_reply("r1")) <= keys.PRIVATE_TTL_S


def test_said_again_they_are_out_already(world):
    world.publish(GUARD)
    assert world.publish(GUARD) is Published.BEFORE
    assert len(world.out) == 1


@pytest.mark.parametrize("now", [1, None])
def test_an_older_attempt_publishes_nothing(world, now):
    world.client.delete(keys.job("j1"))
    if now is not None:
        world.attempt("j1", now)
    assert world.publish(GUARD, pieces=(("reply.0/0", b"p"),)) is Published.FENCED
    assert world.publish(replace(GUARD, after=0)) is Published.FENCED
    assert world.out == []
    assert not world.client.exists(keys.reply("j1"), keys.private_reply("r1"))


def test_a_hole_is_refused(world):
    assert world.publish(replace(GUARD, first=1)) is Published.OUT_OF_ORDER
    world.publish(GUARD)
    assert world.publish(replace(GUARD, first=3, after=4)) is Published.OUT_OF_ORDER
    assert len(world.out) == 1


def test_a_bridge_that_sends_a_worker_to_the_wrong_place_is_refused(world):
    """Its frames 1 and 2 would take the places of frames that are out."""
    world.publish(GUARD)
    world.attempt("j1", 1)
    assert world.publish(Guard("j1", 1, "r1", 1, 3)) is Published.OUT_OF_ORDER


def test_the_same_envelope_as_another_job_is_refused(world):
    world.publish(GUARD)
    world.attempt("j2", 0)
    assert world.publish(replace(GUARD, job_id="j2")) is Published.OUT_OF_ORDER
    assert world.publish(replace(GUARD, job_id="j2", first=2, after=3)) is Published.OUT_OF_ORDER


def test_events_without_frames_need_the_attempt_only(world):
    claimed = Guard("j1", 0, "", 0, 0)
    assert [world.publish(claimed), world.publish(claimed)] == [Published.NOW] * 2
    assert not world.client.exists(keys.private_reply(""))


def test_pieces_of_a_large_reply_are_laid_down_with_it(world):
    assert world.publish(GUARD, pieces=(("reply.0/0", b"a"), ("reply.0/1", b"b"))) is Published.NOW
    assert world.client.hgetall(keys.reply("j1")) == {b"reply.0/0": b"a", b"reply.0/1": b"b"}
    assert 0 < world.client.ttl(keys.reply("j1")) <= keys.REPLAY_TTL_S
