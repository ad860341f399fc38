"""A bridge that slept past its lease while its link was down wakes up and dials before it asks for anything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.lease import LeaseLostError
from tasks import keys
from tests.integration.bridge_world import World, a_world, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("bridge.lease._RENEW_S", 3600)  # nobody but the link asks whose the lease is
    async with a_world(redis_url, tmp_path) as made:
        yield made


async def test_it_does_not_push_its_successor_off(world: World) -> None:
    assert world.api.socket is not None
    heard = world.api.challenges
    world.client.set(keys.bridge_lease(world.bridge.bridge_id), "the successor", px=3_600_000)
    world.api.socket.transport.abort()
    await eventually(world.running.done)
    with pytest.raises(LeaseLostError):
        world.running.result()
    assert (world.api.challenges, world.api.connections) == (heard + 1, 1), "it dialled, and never said who it is"
    world.begin()
    await eventually(world.bridge.lease.answered.is_set)
    await asyncio.sleep(0)
    assert world.api.connections == 1
