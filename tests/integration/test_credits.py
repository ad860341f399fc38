"""Slots shared by several bridges: taken atomically, never more than there are, back when a worker dies."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as aredis

from bridge.dispatch import Dispatcher
from bridge.effects import SweepWorker
from bridge.registry import Registry
from tasks import keys
from tasks.celery_app import make_app
from tasks.redis_client import connect_async
from tasks.scripts import BridgeScripts, Placement
from tasks.sealing import FleetKey, Opener, Sealer

pytestmark = pytest.mark.integration

SLOTS = {"w0": 1, "w1": 3, "w2": 5}


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[aredis.Redis]:
    async with connect_async(redis_url) as client:
        for worker_id in SLOTS:
            await client.set(keys.worker_lease(worker_id), "e1")
        yield client


def placement(job_id: str, candidates: tuple[tuple[str, int], ...] = tuple(SLOTS.items())) -> Placement:
    return Placement(job_id, 0, b"sealed", "b", None, candidates)


async def held(client: aredis.Redis) -> dict[str, int]:
    return {worker_id: int(await client.scard(keys.credits_of(worker_id))) for worker_id in SLOTS}


async def test_two_bridges_never_take_more_slots_than_there_are(client: aredis.Redis) -> None:
    """90 jobs of two bridges at once, each with the workers in another order."""
    chance = random.Random(7)
    bridges = [BridgeScripts(client), BridgeScripts(client)]

    async def ask(number: int) -> str | None:
        order = tuple(chance.sample(sorted(SLOTS.items()), len(SLOTS)))
        return await bridges[number % 2].acquire(placement(f"j{number}", order))

    taken = Counter(await asyncio.gather(*(ask(number) for number in range(90))))
    del taken[None]
    assert taken == SLOTS == await held(client)


async def test_slots_come_and_go_and_the_count_stays_right(client: aredis.Redis) -> None:
    """Clients take, hold and give back in random order; at no moment does a worker have more than its slots."""
    chance, bridge = random.Random(11), BridgeScripts(client)
    over: list[dict[str, int]] = []

    async def use(number: int) -> None:
        for round_ in range(10):
            job_id = f"j{number}.{round_}"
            if await bridge.acquire(placement(job_id)) is None:
                continue
            now = await held(client)
            if any(now[worker_id] > slots for worker_id, slots in SLOTS.items()):
                over.append(now)
            if chance.random() < 0.3:
                await bridge.acquire(placement(job_id))  # sent again: still one slot
            await bridge.release(job_id, 0)
            await bridge.release(job_id, 0)

    await asyncio.gather(*(use(number) for number in range(20)))
    assert over == []
    assert await held(client) == dict.fromkeys(SLOTS, 0)


class Nobody:
    """Results of a dispatcher that nobody asks for."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} was reported")


async def test_the_slots_of_a_dead_worker_come_back(client: aredis.Redis, redis_url: str) -> None:
    bridge, key = BridgeScripts(client), FleetKey.generate()
    for number in range(SLOTS["w2"]):
        assert await bridge.acquire(placement(f"j{number}", (("w2", 5),))) == "w2"
    registry = Registry(client, "b", Sealer(key), Opener(key))
    dispatcher = Dispatcher(client, make_app(redis_url), Sealer(key), Nobody(), registry, bridge)  # type: ignore[arg-type]
    dispatcher.do(SweepWorker("w2"))
    await dispatcher.settle()
    assert (await held(client))["w2"] == SLOTS["w2"], "its lease lives"
    await client.delete(keys.worker_lease("w2"))
    assert await bridge.acquire(placement("late", (("w2", 5),))) is None
    dispatcher.do(SweepWorker("w2"))
    await dispatcher.settle()
    await dispatcher.close()
    assert (await held(client))["w2"] == 0
    await client.set(keys.worker_lease("w2"), "e2")
    assert await bridge.acquire(placement("again", (("w2", 5),))) == "w2"
