"""Two bridges of different ids on one Redis, with one worker: each has its own jobs, and a slot counts once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.protocol import Ack
from tasks import keys
from tasks.sealing import FleetKey
from tests.bridge.builders import job
from tests.integration.bridge_world import FakeWorker, World, a_world, eventually

pytestmark = pytest.mark.integration

SLOTS = 2


async def die(world: World) -> None:
    """The bridge ends without a word to its jobs, as after kill -9: its lease stays until it lapses."""
    world.bridge.lease.give_back = _nothing  # type: ignore[method-assign]
    world.running.cancel()
    await asyncio.gather(world.running, return_exceptions=True)
    assert world.client.exists(keys.bridge_lease(world.settings.worker_id))


async def _nothing() -> None:
    """Who was killed gives nothing back."""


def held(world: World) -> set[str]:
    return {member.decode().partition(":")[0] for member in world.client.smembers(keys.credits_of("w1"))}


def noted(world: World) -> set[str]:
    return {name.decode() for name in world.client.hkeys(keys.open_jobs(world.settings.worker_id))}


async def finish(world: World, worker: FakeWorker, job_id: str, seq: int) -> None:
    worker.chunk(seq, job_id, job_id)
    worker.finish(seq + 1, job_id)
    await eventually(lambda: world.api.of("result", job_id))
    await world.api.send(Ack(job_id=job_id, seq=seq + 1))


async def test_two_bridges_share_a_worker_and_never_touch_each_others_jobs(redis_url: str, tmp_path: Path) -> None:
    key = FleetKey.generate()
    shared = {"fleet_key": key.to_base64()}
    async with (
        a_world(redis_url, tmp_path / "a", worker_id="wrk-a", **shared) as a,
        a_world(redis_url, tmp_path / "b", worker_id="wrk-b", **shared) as b,
    ):
        a.key = key
        worker = await a.worker("w1", slots=SLOTS)
        await eventually(lambda: b.api.serves("w1"))

        # both slots are taken, one by each; what comes now waits, whichever bridge it came to
        await a.api.send(job("a1"))
        await b.api.send(job("b1"))
        await a.claimed(worker, "a1")
        await b.claimed(worker, "b1")
        for world, name in ((a, "a2"), (b, "b2")):
            await world.api.send(job(name))
            await eventually(lambda world=world, name=name: world.api.of("accepted", name))  # type: ignore[misc]
        assert (noted(a), noted(b)) == ({"a1", "a2"}, {"b1", "b2"})
        assert len(held(a)) == SLOTS
        assert set(worker.jobs) == {"a1", "b1"}

        # one of them dies with both of its jobs open; the other's run on, and take the slot that comes free
        await die(a)
        await finish(b, worker, "b1", 1)
        await b.claimed(worker, "b2")
        assert len(held(b)) == SLOTS, "the dead bridge's job still has its slot"
        worker.chunk(1, "said while nobody listened", "a1")

        # its successor goes on with its own jobs, and with nothing else
        a.begin()
        await eventually(lambda: a.api.connections == 2)
        await eventually(lambda: a.api.text("a1"))
        await eventually(lambda: noted(b) == {"b2"})
        await finish(b, worker, "b2", 1)
        await finish(a, worker, "a1", 2)
        await a.claimed(worker, "a2", attempt=1)  # it held no slot, and whether it was sent could not be known
        await finish(a, worker, "a2", 1)

        assert a.api.text("a1") == "said while nobody listeneda1"
        assert b.api.text("b1") == "b1"
        assert {frame["job_id"] for frame in a.api.of("result")} == {"a1", "a2"}
        assert {frame["job_id"] for frame in b.api.of("result")} == {"b1", "b2"}
        assert a.api.of("error") == b.api.of("error") == []
        assert len(worker.messages) == len(worker.jobs) == 4, "nothing was asked for twice"
        assert worker.cancels == []
        await eventually(lambda: not held(a) and not noted(a) and not noted(b))
