"""One owner at a time, and what it leaves to its successor: the lease and the registry on a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as aredis

from bridge.entries import Entry, Found
from bridge.lease import Lease, LeaseLostError
from bridge.registry import Registry
from tasks import keys
from tasks.contract import Job, Resume
from tasks.redis_client import connect_async
from tasks.scripts import BridgeScripts, Placement
from tasks.sealing import FleetKey, Opener, Sealer, payload_aad
from tests.bridge.builders import job
from tests.fakes.waiting import PATIENCE_S
from tests.integration.bridge_world import eventually

pytestmark = pytest.mark.integration

KEY = FleetKey.generate()
SEALER = Sealer(KEY)
SECRET = "the patient's name"


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[aredis.Redis]:
    async with connect_async(redis_url) as client:
        yield client


@contextlib.asynccontextmanager
async def kept(lease: Lease) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(lease.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_second_bridge_waits_until_the_first_ones_lease_has_lapsed(client: aredis.Redis) -> None:
    first, second = Lease(client, "b"), Lease(client, "b")
    async with kept(first):
        await asyncio.wait_for(first.held.wait(), PATIENCE_S)
        async with kept(second):
            await asyncio.wait_for(second.answered.wait(), PATIENCE_S)
            assert not second.held.is_set()
    async with kept(second):
        await asyncio.wait_for(second.held.wait(), PATIENCE_S)
        async with kept(first) as zombie:
            with pytest.raises(LeaseLostError):
                await asyncio.wait_for(asyncio.shield(zombie), PATIENCE_S)


async def test_a_lease_given_back_is_free_at_once(client: aredis.Redis) -> None:
    first, second = Lease(client, "b"), Lease(client, "b")
    async with kept(first):
        await asyncio.wait_for(first.held.wait(), PATIENCE_S)
    await second.give_back()
    assert await client.exists(keys.bridge_lease("b")), "only its holder can give it back"
    await first.give_back()
    assert not await client.exists(keys.bridge_lease("b"))
    async with kept(second):
        await asyncio.wait_for(second.held.wait(), PATIENCE_S)


async def test_a_redis_that_lost_its_data_leaves_the_lease_with_its_holder(client: aredis.Redis) -> None:
    """The one that waits asks four times as often, and would find it free."""
    first, second = Lease(client, "b"), Lease(client, "b")
    async with kept(first) as owner:
        await asyncio.wait_for(first.held.wait(), PATIENCE_S)
        async with kept(second):
            await asyncio.wait_for(second.answered.wait(), PATIENCE_S)
            await client.flushall()
            await eventually(lambda: second._epoch == 1 and second._patient_until)
            assert not second.held.is_set()
            assert not owner.done()


async def test_one_that_starts_as_redis_loses_its_data_leaves_the_lease_with_its_holder(client: aredis.Redis) -> None:
    first, second = Lease(client, "b"), Lease(client, "b")
    async with kept(first) as owner:
        await asyncio.wait_for(first.held.wait(), PATIENCE_S)
        await client.flushall()
        await second._ask()
        assert not await client.exists(keys.bridge_lease("b")), "it leaves a free one"
        async with kept(second):
            await eventually(lambda: first._epoch == 1 and second._epoch == 1)
            assert not second.held.is_set()
            assert not owner.done()


async def test_on_a_new_redis_the_first_one_to_ask_has_it_soon(client: aredis.Redis) -> None:
    first = Lease(client, "b")
    async with kept(first):
        await asyncio.wait_for(first.answered.wait(), PATIENCE_S)
        assert not first.held.is_set()
        await asyncio.wait_for(first.held.wait(), PATIENCE_S)


async def test_a_full_redis_takes_the_lease_from_nobody(client: aredis.Redis) -> None:
    first, second = Lease(client, "b"), Lease(client, "b")
    async with kept(first):
        await asyncio.wait_for(first.held.wait(), PATIENCE_S)
        async with kept(second):
            await client.config_set("maxmemory", "1mb")
            try:
                await asyncio.sleep(keys.BRIDGE_LEASE_S + 0.5)  # the time it would take to lapse
                assert await client.pttl(keys.bridge_lease("b")) > 0
                assert not second.held.is_set()
            finally:
                await client.config_set("maxmemory", "0")


async def test_a_process_that_lost_its_lease_touches_no_job(client: aredis.Redis) -> None:
    zombie, owner = Lease(client, "b"), Lease(client, "b")
    await client.set(keys.worker_lease("w1"), "e")
    made = Job(job_id="j", model="m", body={}, created=0, bridge_id="b")
    placement = Placement("j", 0, payload(made), "b", None, (("w1", 2),))
    async with kept(owner):
        await asyncio.wait_for(owner.held.wait(), PATIENCE_S)
        assert await zombie.scripts.acquire(placement) is None
        assert await owner.scripts.acquire(placement) == "w1"
        assert not await zombie.scripts.release("j", 0)
        await owner.scripts.note("j", b"sealed")
        await zombie.scripts.note("j")
        await zombie.scripts.note("other", b"sealed")
        assert await client.hkeys(keys.open_jobs("b")) == [b"j"]
        assert await owner.scripts.release("j", 0)


async def test_bridges_of_other_ids_do_not_meet(client: aredis.Redis) -> None:
    leases = [Lease(client, name) for name in "ab"]
    async with kept(leases[0]), kept(leases[1]):
        await eventually(lambda: all(lease.held.is_set() for lease in leases))


def payload(made: Job) -> bytes:
    return SEALER.seal(made.model_dump_json().encode(), payload_aad(made.job_id))


async def test_the_registry_gives_back_what_was_written_sealed(client: aredis.Redis) -> None:
    registry = Registry(client, "b", SEALER, Opener(KEY))
    waiting = Entry(frame=job("waits", body={"messages": [SECRET]}))
    running = Entry(frame=job("runs"))
    await registry.remember(waiting)
    await registry.remember(running)
    await registry.remember(Entry(frame=job("over")))
    await registry.forget("over")
    resumed = Job(
        job_id="runs",
        attempt=1,
        model="m",
        body={},
        created=0,
        bridge_id="b",
        first_seq=5,
        resume=Resume(token_ids=(7,)),
    )
    await client.set(keys.worker_lease("w1"), "e")
    placement = Placement("runs", 1, payload(resumed), "b", None, (("w1", 2),))
    assert await BridgeScripts(client).acquire(placement) == "w1"
    found = {one.entry.id: one for one in await registry.read()}
    assert found["waits"] == Found(waiting)
    assert found["runs"].holder == "w1"
    entry = found["runs"].entry
    assert (entry.attempt, entry.next_seq, entry.tokens) == (1, 5, (7,))
    raw = await client.hgetall(keys.open_jobs("b"))
    assert SECRET.encode() not in b"".join(raw.values())
    assert await client.ttl(keys.open_jobs("b")) > 0
    assert await Registry(client, "other", SEALER, Opener(KEY)).read() == []


async def test_an_entry_under_a_foreign_key_is_left_out(
    client: aredis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await Registry(client, "b", Sealer(FleetKey.generate()), Opener(KEY)).remember(Entry(frame=job()))
    assert await Registry(client, "b", SEALER, Opener(KEY)).read() == []
    assert "job.unreadable" in caplog.text
