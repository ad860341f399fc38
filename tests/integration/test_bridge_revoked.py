"""A bridge whose key is revoked: its jobs are stopped on the workers, and it does not come back by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.protocol import CloseCode
from tasks import keys
from tests.bridge.builders import job
from tests.integration.bridge_world import World, a_world, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(redis_url, tmp_path) as made:
        yield made


async def test_cut_off(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job())
    await world.claimed(worker)
    assert world.api.socket is not None
    await world.api.socket.close(CloseCode.REVOKED, "revoked")
    await eventually(world.running.done)
    fatal = world.running.result()
    assert fatal is not None
    assert fatal.final
    assert "revoked" in fatal.words
    assert await eventually(lambda: [cancel["job_id"] for cancel in worker.cancels]) == ["j1"]
    assert not world.client.exists(keys.bridge_lease(world.bridge.bridge_id))
    assert world.api.connections == 1


async def test_one_that_waits_for_approval_asks_again(world: World) -> None:
    await eventually(lambda: world.api.connections)
    assert world.api.socket is not None
    await world.api.socket.close(CloseCode.PENDING, "waits")
    await eventually(lambda: world.api.connections == 2)
