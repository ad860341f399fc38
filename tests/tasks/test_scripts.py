"""Slots and claims: what the Lua scripts promise, on a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis
from redis.asyncio import Redis as AsyncRedis

from tasks import keys
from tasks.redis_client import connect, connect_async
from tasks.scripts import BridgeScripts, Claim, Placement, WorkerScripts

JOB = Placement("j1", 0, b"sealed", "b1", None, (("w1", 1),))


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        for worker in ("w1", "w2"):
            client.set(keys.worker_lease(worker), "epoch")
        yield client


@pytest.fixture
async def bridge(client, redis_url: str):
    async_client: AsyncRedis = connect_async(redis_url)
    async with async_client:
        yield BridgeScripts(async_client)


@pytest.fixture
def worker(client) -> WorkerScripts:
    return WorkerScripts(client)


def held(client: redis.Redis, worker_id: str) -> set[bytes]:
    return client.smembers(keys.credits_of(worker_id))


async def test_acquire_takes_a_slot_and_lays_the_payload_down(client, bridge):
    assert await bridge.acquire(JOB) == "w1"
    assert held(client, "w1") == {b"j1"}
    row = client.hgetall(keys.job("j1"))
    assert (row[b"payload"], row[b"attempt"], row[b"bridge"], row[b"worker"]) == (b"sealed", b"0", b"b1", b"")
    assert 0 < client.ttl(keys.job("j1")) <= keys.JOB_TTL_S


async def test_a_full_worker_is_passed_over_for_the_next_candidate(bridge):
    await bridge.acquire(JOB)
    both = (("w1", 1), ("w2", 1))
    assert await bridge.acquire(replace(JOB, job_id="j2", candidates=both)) == "w2"
    assert await bridge.acquire(replace(JOB, job_id="j3", candidates=both)) is None


async def test_nothing_is_written_when_no_slot_is_free(client, bridge):
    await bridge.acquire(JOB)
    await bridge.acquire(replace(JOB, job_id="j2"))
    assert not client.exists(keys.job("j2"))


async def test_a_worker_without_a_lease_gets_nothing(client, bridge):
    client.delete(keys.worker_lease("w1"))
    assert await bridge.acquire(JOB) is None


async def test_a_job_sent_again_gives_its_old_slot_back_first(client, bridge):
    await bridge.acquire(JOB)
    assert await bridge.acquire(replace(JOB, attempt=1)) == "w1"  # although it was full, with this very job
    assert await bridge.acquire(replace(JOB, attempt=2, candidates=(("w2", 1),))) == "w2"
    assert (held(client, "w1"), held(client, "w2")) == (set(), {b"j1"})


async def test_claim_hands_over_the_payload_once(bridge, worker):
    await bridge.acquire(JOB)
    assert worker.claim("j1", 0, "w1") == (Claim.OK, b"sealed")
    assert worker.claim("j1", 0, "w2") == (Claim.TAKEN, b"")


async def test_claim_by_another_worker_moves_the_credit(client, bridge, worker):
    await bridge.acquire(JOB)
    assert worker.claim("j1", 0, "w2")[0] is Claim.OK
    assert held(client, "w1") == set()
    assert held(client, "w2") == {b"j1"}


async def test_claim_writes_a_credit_that_a_starting_worker_had_emptied(client, bridge, worker):
    await bridge.acquire(JOB)
    client.delete(keys.credits_of("w1"))
    worker.claim("j1", 0, "w1")
    assert held(client, "w1") == {b"j1"}


@pytest.mark.parametrize(
    ("job_id", "attempt", "verdict"), [("nobody", 0, Claim.GONE), ("j1", 1, Claim.STALE), ("j1", 0, Claim.OK)]
)
async def test_claim_compares_job_and_attempt(bridge, worker, job_id, attempt, verdict):
    await bridge.acquire(JOB)
    assert worker.claim(job_id, attempt, "w1")[0] is verdict


@pytest.mark.parametrize(("in_s", "verdict"), [(-0.01, Claim.EXPIRED), (60, Claim.OK)])
async def test_claim_looks_at_the_deadline_by_the_clock_of_redis(bridge, worker, in_s, verdict):
    await bridge.acquire(replace(JOB, deadline=time.time() + in_s))
    assert worker.claim("j1", 0, "w1")[0] is verdict


async def test_release_frees_the_slot_and_forgets_the_job(client, bridge, worker):
    await bridge.acquire(JOB)
    worker.claim("j1", 0, "w2")
    worker.release("j1", 0)
    assert held(client, "w2") == set()
    assert not client.exists(keys.job("j1"))
    worker.release("j1", 0)  # idempotent


async def test_release_of_an_older_attempt_leaves_the_newer_alone(client, bridge, worker):
    await bridge.acquire(replace(JOB, attempt=1))
    worker.release("j1", 0, worker_id="w1")
    assert held(client, "w1") == {b"j1"}
    assert await bridge.release("j1", 0) is False


async def test_release_of_an_older_attempt_takes_back_the_credit_its_worker_wrote_again(client, bridge, worker):
    await bridge.acquire(replace(JOB, attempt=1))
    client.sadd(keys.credits_of("w2"), "j1")
    worker.release("j1", 0, worker_id="w2")
    assert held(client, "w2") == set()
    assert held(client, "w1") == {b"j1"}


async def test_a_bridge_that_releases_leaves_the_message_nothing_to_find(bridge, worker):
    await bridge.acquire(JOB)
    assert await bridge.release("j1", 0) is True
    assert worker.claim("j1", 0, "w1")[0] is Claim.GONE


def test_release_takes_back_a_credit_whose_job_redis_lost(client, worker):
    client.sadd(keys.credits_of("w1"), "j1")
    worker.release("j1", 0, worker_id="w1")
    assert held(client, "w1") == set()


async def test_release_on_a_pipeline_needs_no_round_trip_of_its_own(client, bridge, worker):
    await bridge.acquire(JOB)
    pipe = client.pipeline(transaction=False)
    worker.release("j1", 0, pipe, worker_id="w1")
    assert not pipe.scripts
    assert pipe.execute() == [1]
