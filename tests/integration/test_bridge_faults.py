"""A real bridge when the link breaks, Redis dies, pub/sub loses messages or the key is wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.backoff import Fatal
from bridge.identity import generate_seed
from tasks.sealing import FleetKey
from tests.bridge.builders import job
from tests.fakes.redis_server import RedisServer
from tests.fakes.waiting import PATIENCE_S
from tests.integration.bridge_world import FakeApi, World, a_world, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(redis_url, tmp_path) as made:
        yield made


async def test_a_broken_link_is_resumed_without_a_hole(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job())
    await world.claimed(worker)
    worker.chunk(1, "a")
    await eventually(world.api.text)
    assert world.api.socket is not None
    world.api.socket.transport.abort()
    worker.chunk(2, "b")
    worker.chunk(3, "c")
    await eventually(lambda: world.api.connections == 2)
    worker.chunk(4, "d")
    worker.finish(5)
    await eventually(lambda: world.api.of("result"))
    assert world.api.text() == "abcd"
    assert world.api.seqs() == [0, 1, 2, 3, 4, 5]


async def test_a_job_that_ended_while_the_link_was_down_is_delivered_after(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job())
    await world.claimed(worker)
    await world.api.stop()
    worker.chunk(1, "a")
    worker.finish(2)
    await eventually(lambda: world.bridge.session.open_jobs == 0)
    await world.api.start()
    await eventually(lambda: world.api.of("result"))
    assert world.api.text() == "a"
    assert len(world.api.of("usage")) == 1


async def test_what_the_api_no_longer_waits_for_is_cancelled(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job())
    await world.claimed(worker)
    world.api.waiting.clear()
    assert world.api.socket is not None
    world.api.socket.transport.abort()
    await eventually(lambda: worker.cancels)
    assert world.bridge.session.open_jobs == 0


async def test_a_message_pubsub_lost_is_read_from_the_stream(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job())
    await world.claimed(worker)
    worker.chunk(1, "a", live=False)
    worker.chunk(2, "b", live=False)
    worker.chunk(3, "c")
    await eventually(lambda: world.api.text() == "abc")


async def test_a_cut_subscription_is_noticed_and_healed(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job())
    await world.claimed(worker)
    pubsub = [c for c in world.client.client_list() if int(c["sub"]) == 2]
    assert pubsub
    world.client.client_kill_filter(_id=pubsub[0]["id"])
    worker.chunk(1, "a", live=False)
    worker.finish(2)  # the end is lost, too, unless the stream is read
    await eventually(lambda: world.api.of("result"))
    assert world.api.text() == "a"


async def test_a_redis_that_restarts_loses_no_job(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        async with a_world(server.url, tmp_path) as world:
            worker = await world.worker()
            await world.api.send(job("runs"))
            await world.claimed(worker, "runs")
            worker.chunk(1, "a", "runs")
            await eventually(lambda: world.api.text("runs") == "a")
            await worker.hold()
            await world.api.send(job("queued"))
            await eventually(lambda: world.client.exists("pendra:job:queued"))

            await asyncio.to_thread(server.kill)
            await world.api.send(job("meanwhile"))
            await eventually(lambda: world.api.of("accepted", "meanwhile"))
            await asyncio.to_thread(server.start)
            worker.claiming = True

            worker.chunk(2, "b", "runs")
            worker.finish(3, "runs")
            for name in ("queued", "meanwhile"):
                await eventually(lambda name=name: name in worker.jobs)  # type: ignore[misc]
                again = worker.jobs[name]
                worker.chunk(again.first_seq + 1, name, name)
                worker.finish(again.first_seq + 2, name)
            await eventually(lambda: len(world.api.of("result")) == 3)
            assert world.api.text("runs") == "ab"
            assert world.api.text("queued") == "queued"
            assert world.api.text("meanwhile") == "meanwhile"
            assert world.api.of("error") == []


async def test_a_refused_key_is_fatal_with_words(world: World) -> None:
    world.api.known.clear()
    assert world.api.socket is not None
    world.api.socket.transport.abort()
    ended = await asyncio.wait_for(asyncio.shield(world.running), PATIENCE_S)
    assert isinstance(ended, Fatal)
    assert "GPU_WORKER_PRIVATE_KEY" in ended.words


# ------------------------------------------------------------------ as a process


def environment(redis_url: str, home: Path, api_url: str, seed: str = "") -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PENDRA_", "GPU_WORKER", "APP_SERVER"))}
    return clean | {
        "PENDRA_HOME": str(home),
        "PENDRA_REDIS_URL": redis_url,
        "PENDRA_FLEET_KEY": FleetKey.generate().to_base64(),
        "APP_SERVER_WS_URL": api_url,
        "WORKER_ID": "wrk-test",
        "GPU_WORKER_PRIVATE_KEY": seed,
    }


async def ran(env: dict[str, str]) -> tuple[int, str]:
    """Exit code and stderr of `python -m bridge.main`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge.main", env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, stderr = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode is not None
    return process.returncode, stderr.decode()


async def test_without_a_key_it_does_not_start(redis_url: str, tmp_path: Path) -> None:
    code, stderr = await ran(environment(redis_url, tmp_path, "ws://127.0.0.1:1"))
    assert code == 78
    assert "GPU_WORKER_PRIVATE_KEY" in stderr


async def test_an_unknown_key_ends_the_process_with_words(redis_url: str, tmp_path: Path) -> None:
    api, seed = FakeApi(), generate_seed()
    await api.start()
    code, stderr = await ran(environment(redis_url, tmp_path, api.url, seed))
    await api.stop()
    assert code == 78
    assert "the API does not know this worker's key" in stderr
    assert seed not in stderr


async def test_sigterm_ends_the_process_cleanly_without_any_api(redis_url: str, tmp_path: Path) -> None:
    env = environment(redis_url, tmp_path, "ws://127.0.0.1:1", generate_seed())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge.main", env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    log = b""
    deadline = time.monotonic() + PATIENCE_S
    while b"link.retry" not in log and time.monotonic() < deadline:
        log += await asyncio.wait_for(process.stderr.readline(), PATIENCE_S)
    process.send_signal(signal.SIGTERM)
    rest = await asyncio.wait_for(process.stderr.read(), PATIENCE_S)
    assert await process.wait() == 0
    assert b"Traceback" not in log + rest
