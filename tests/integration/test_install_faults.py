"""An install outlives the link to the API and the bridge that asked for it: fetched once, and its end is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.protocol import Ack, Install
from tasks import keys
from tests.integration.bridge_world import World, a_world, eventually
from tests.integration.install_host import NODE, Host
from tests.worker.store.models import GGUF, SHA256, FileServer, serving

pytestmark = pytest.mark.integration
REQUEST = "r1"


@pytest.fixture
async def host(redis_url: str, tmp_path: Path) -> AsyncIterator[Host]:
    home = tmp_path / "host"
    home.mkdir()
    made = Host(redis_url, home)
    try:
        await asyncio.to_thread(made.start)
        yield made
    finally:
        await asyncio.to_thread(made.close)


@pytest.fixture
async def world(redis_url: str, tmp_path: Path, host: Host) -> AsyncIterator[World]:
    async with a_world(redis_url, tmp_path / "bridge") as made:
        await made.worker("w1", node=NODE)
        yield made


async def ask(world: World, server: FileServer) -> None:
    variant = {"gguf_url": server.url, "gguf_sha256": SHA256, "size": len(GGUF)}
    world.api.waiting.add(REQUEST)
    await world.api.send(Install(request_id=REQUEST, model="tiny:1", variant=variant))
    await eventually(lambda: any(frame["stage"] == "downloading" for frame in world.api.of("progress", REQUEST)))


def installed_once(host: Host, server: FileServer) -> bool:
    return (host.store / "tiny.gguf").read_bytes() == GGUF and server.probes == 1


async def test_the_link_is_lost_meanwhile(world: World, host: Host) -> None:
    with serving(FileServer(drip=True)) as server:
        await ask(world, server)
        assert world.api.socket is not None
        world.api.socket.transport.abort()
        await world.api.stop()
        server.drip = False
        await eventually((host.store / "tiny.gguf").exists)
        heard = len(world.api.frames)
        await world.api.start()
        await eventually(lambda: world.api.of("result", REQUEST))
        assert installed_once(host, server)
    (result,) = world.api.of("result", REQUEST)
    assert '"tiny:1"' in result["data"]
    assert result["seq"] > max(world.api.seqs(REQUEST)[:heard], default=-1) - 1
    assert await _kept(world)
    await world.api.send(Ack(job_id=REQUEST, seq=result["seq"]))
    await eventually(lambda: not world.client.exists(keys.open_installs("wrk-test")))


async def test_the_bridge_is_restarted_meanwhile(world: World, host: Host) -> None:
    with serving(FileServer(drip=True)) as server:
        await ask(world, server)
        await restart(world)
        seen = len(world.api.of("progress", REQUEST))
        await eventually(lambda: len(world.api.of("progress", REQUEST)) > seen)
        server.drip = False
        await eventually(lambda: world.api.of("result", REQUEST))
        assert installed_once(host, server)


async def test_it_ends_while_no_bridge_is_there_and_is_asked_again(world: World, host: Host) -> None:
    with serving(FileServer(drip=True)) as server:
        await ask(world, server)
        world.stop.set()
        await world.running
        server.drip = False
        await eventually((host.store / "tiny.gguf").exists)
        await restart(world)
        await eventually(lambda: world.api.of("result", REQUEST))
        await world.api.send(Install(request_id=REQUEST, model="tiny:1", variant={"gguf_url": server.url}))
        await eventually(lambda: not world.bridge.session.install_tasks)
        assert installed_once(host, server)


async def restart(world: World) -> None:
    """Another bridge process of the same id, as its supervisor would start it."""
    before = world.api.connections
    world.stop.set()
    await world.running
    world.begin()
    await eventually(lambda: world.api.connections > before)


async def _kept(world: World) -> bool:
    """Sealed: the registry does not show what is installed."""
    raw = await asyncio.to_thread(world.client.hget, keys.open_installs("wrk-test"), REQUEST)
    return raw is not None and b"tiny" not in raw
