"""A real bridge on a real Redis: files in and large replies out, across failures."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.protocol import Ack, Blob, Cancel
from tasks import blobs, keys
from tasks.contract import Finished, Job
from tasks.sealing import Opener, Sealer
from tests.bridge.builders import job
from tests.integration.bridge_world import FakeWorker, World, a_world, eventually
from worker.parts import Parts

pytestmark = pytest.mark.integration

FILE = b"SECRET" + bytes(range(256)) * 12_000  # 3 MB
REPLY = '{"text": "' + "SECRET ä " * 200_000 + '"}'


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(redis_url, tmp_path) as made:
        yield made


async def upload(world: World, *, upto: int | None = None) -> None:
    await world.api.send(job(stream=False, blobs=("file",)))
    pieces = list(blobs.cut(FILE))
    for index, piece in enumerate(pieces[:upto]):
        data, last = base64.b64encode(piece).decode(), index == len(pieces) - 1
        await world.api.send(Blob(job_id="j1", name="file", index=index, data=data, last=last))


def parts_of(world: World, claimed: Job) -> dict[str, bytes]:
    return Parts(world.client, Opener(world.key)).attached(claimed).parts


def readable(world: World) -> bool:
    """Whether the plaintext is in any value of Redis."""
    return any(b"SECRET" in (world.client.dump(key) or b"") for key in world.client.scan_iter("*"))


async def test_a_file_reaches_the_worker_sealed_and_goes_with_the_job(world: World) -> None:
    worker = await world.worker()
    await upload(world)
    claimed = await world.claimed(worker)
    assert await asyncio.to_thread(parts_of, world, claimed) == {"file": FILE}
    assert not readable(world)
    assert 0 < world.client.ttl(keys.blobs("j1")) <= keys.JOB_TTL_S
    worker.finish(1)
    await eventually(lambda: world.api.of("result", "j1"))
    await eventually(lambda: not world.client.exists(keys.blobs("j1")))


async def test_the_next_worker_finds_the_file_when_the_first_one_dies(world: World) -> None:
    first = await world.worker("w1")
    await upload(world)
    await world.claimed(first)
    await first.hold()  # else it could take its own job again
    second = await world.worker("w2")
    first.beating = False
    again = await world.claimed(second, attempt=1)
    assert await asyncio.to_thread(parts_of, world, again) == {"file": FILE}
    second.finish(again.first_seq + 1)
    await eventually(lambda: world.api.of("result", "j1"))


async def test_the_file_outlives_its_bridge(world: World) -> None:
    worker = await world.worker()
    await worker.hold()
    await upload(world)
    await eventually(lambda: world.api.of("accepted", "j1"))
    await eventually(lambda: world.client.hexists(keys.open_jobs("wrk-test"), "j1"))
    world.running.cancel()
    await asyncio.gather(world.running, return_exceptions=True)
    world.begin()
    worker.claiming = True
    claimed = await eventually(lambda: worker.jobs.get("j1"))
    assert await asyncio.to_thread(parts_of, world, claimed) == {"file": FILE}


async def test_a_cancelled_upload_leaves_nothing(world: World) -> None:
    await world.worker()
    await upload(world, upto=3)
    await eventually(lambda: world.client.hlen(keys.blobs("j1")) == 3)
    await world.api.send(Cancel(job_id="j1"))
    await eventually(lambda: not world.client.exists(keys.blobs("j1")))


def laid_reply(world: World, worker: FakeWorker) -> None:
    """What a worker's publisher does with a large reply."""
    key, data = keys.reply("j1"), REPLY.encode()
    world.client.hset(key, mapping=blobs.sealed(Sealer(world.key), key, "reply.0", data))
    worker.publish(Finished(job_id="j1", attempt=0, seq=1, blob=blobs.ref_of("reply.0", len(data))))


def arrived(world: World) -> bytes:
    """The pieces the API got since the last one with index 0."""
    data = b""
    for frame in world.api.of("blob", "j1"):
        data = base64.b64decode(frame["data"]) if frame["index"] == 0 else data + base64.b64decode(frame["data"])
    return data


async def test_a_large_reply_goes_out_in_pieces_until_it_is_acknowledged(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job(stream=False))
    await world.claimed(worker)
    laid_reply(world, worker)
    await eventually(lambda: arrived(world) == REPLY.encode())
    (result,) = world.api.of("result", "j1")
    assert result["blob"]["size"] == len(REPLY.encode())
    assert not readable(world)
    await world.api.send(Ack(job_id="j1", seq=1))
    await eventually(lambda: not world.client.exists(keys.reply("j1")))


async def test_a_large_reply_is_sent_again_after_a_reconnect(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job(stream=False))
    await world.claimed(worker)
    laid_reply(world, worker)
    await eventually(lambda: world.api.of("result", "j1") and world.api.of("blob", "j1"))
    world.api.frames = [frame for frame in world.api.frames if frame["type"] not in {"result", "blob"}]
    world.api.waiting.add("j1")
    assert world.api.socket is not None
    world.api.socket.transport.abort()
    await eventually(lambda: world.api.connections > 1)
    await eventually(lambda: world.api.of("result", "j1"))
    await eventually(lambda: arrived(world) == REPLY.encode())


async def test_a_large_reply_that_is_gone_is_an_error(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job(stream=False))
    await world.claimed(worker)
    worker.publish(Finished(job_id="j1", attempt=0, seq=1, blob=blobs.ref_of("reply.0", 5)))
    (error,) = await eventually(lambda: world.api.of("error", "j1"))
    assert (error["code"], error["status"]) == ("blob_lost", 502)
