"""A real bridge on a real Redis: jobs from the API's frame to the API's frame."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.protocol import Cancel
from tasks import keys
from tasks.contract import Resume
from tasks.scripts import Claim
from tests.bridge.builders import job
from tests.fakes.waiting import PATIENCE_S
from tests.integration.bridge_world import MODEL, World, a_world, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(redis_url, tmp_path) as made:
        yield made


async def test_a_job_from_frame_to_result(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job(body={"messages": ["SECRET"]}))
    claimed = await world.claimed(worker)
    assert claimed.body == {"messages": ["SECRET"]}
    worker.chunk(1, "a")
    worker.chunk(2, "b")
    worker.finish(3)
    (result,) = await eventually(lambda: world.api.of("result", "j1"))
    assert world.api.seqs() == [0, 1, 2, 3]
    assert world.api.text() == "ab"
    assert (result["worker_id"], result["worker_name"]) == ("w1", "W1")
    assert world.api.of("usage", "j1")[0]["usage"]["completion_tokens"] == 3
    kinds = [f["type"] for f in world.api.frames if f.get("job_id") == "j1"]
    assert kinds == ["accepted", "progress", "usage", "result"]
    assert world.client.scard(keys.credits_of("w1")) == 0


async def test_nothing_readable_is_on_redis(world: World) -> None:
    worker = await world.worker()
    await worker.hold()
    await world.api.send(job(body={"messages": ["SECRET"]}))
    await eventually(lambda: world.client.llen(keys.model_queue(MODEL)))
    (raw,) = world.client.lrange(keys.model_queue(MODEL), 0, -1)
    message = json.loads(raw)
    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert args == []
    size = kwargs.pop("size")
    assert kwargs == {"job_id": "j1", "attempt": 0, "model": MODEL}
    assert size == len(world.client.hget(keys.job("j1"), "payload") or b"")
    assert message["headers"]["argsrepr"] == message["headers"]["kwargsrepr"] == "(ids only)"
    assert message["headers"]["ignore_result"] is True
    for key in world.client.scan_iter():
        assert b"SECRET" not in world.client.dump(key)


async def test_a_pinned_job_goes_to_that_workers_queue(world: World) -> None:
    await world.worker("w1")
    worker = await world.worker("w2")
    await world.api.send(job(pin="w2"))
    await world.claimed(worker)
    assert worker.messages[0]["properties"]["delivery_info"]["routing_key"] == "worker.w2"


async def test_a_full_fleet_makes_jobs_wait_and_a_free_slot_lets_them_go(world: World) -> None:
    worker = await world.worker(slots=1)
    await world.api.send(job("a"))
    await world.claimed(worker, "a")
    await world.api.send(job("b"))
    await eventually(lambda: world.api.of("accepted", "b"))
    assert "b" not in worker.jobs
    worker.finish(1, "a")
    await world.claimed(worker, "b")


async def test_a_burst_larger_than_any_connection_pool_ends_well(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await world.worker(slots=150)
    names = [f"j{n}" for n in range(200)]
    for name in names:
        await world.api.send(job(name))
    ended: set[str] = set()
    while len(ended) < len(names):
        for name in await eventually(lambda: set(worker.jobs) - ended):
            worker.chunk(1, name, name)
            worker.finish(2, name)
            ended.add(name)
    await eventually(lambda: len(world.api.of("result")) == len(names))
    assert all(world.api.text(name) == name for name in names)
    assert not [r for r in caplog.records if "failed" in getattr(r, "action", "")]
    assert world.client.scard(keys.credits_of("w1")) == 0


async def test_a_cancelled_job_is_stopped_on_its_worker(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job())
    await world.claimed(worker)
    await world.api.send(Cancel(job_id="j1"))
    await eventually(lambda: worker.cancels)
    assert worker.cancels == [{"op": "cancel", "job_id": "j1", "attempt": 0}]
    worker.chunk(1, "late")
    await world.api.send(job("j2"))
    await world.claimed(worker, "j2")
    assert world.api.text() == ""
    assert world.api.of("error", "j1") == []


async def test_a_job_cancelled_in_the_queue_is_never_run(world: World) -> None:
    worker = await world.worker()
    await worker.hold()
    await world.api.send(job())
    await eventually(lambda: world.client.llen(keys.model_queue(MODEL)))
    await world.api.send(Cancel(job_id="j1"))
    await eventually(lambda: not world.client.exists(keys.job("j1")))
    assert world.client.scard(keys.credits_of("w1")) == 0
    worker.claiming = True
    await eventually(lambda: worker.refused)
    assert worker.refused == [Claim.GONE]


async def test_unknown_models_and_missing_workers_are_answered(world: World) -> None:
    await world.api.send(job("early"))
    assert (await eventually(lambda: world.api.of("error", "early")))[0]["code"] == "no_worker"
    await world.worker()
    await world.api.send(job("other", model="other"))
    error = (await eventually(lambda: world.api.of("error", "other")))[0]
    assert (error["code"], error["status"]) == ("model_not_found", 404)


async def test_a_worker_that_dies_before_the_first_token_is_replaced(world: World) -> None:
    first = await world.worker("w1")
    await world.api.send(job())
    await world.claimed(first)
    second = await world.worker("w2")
    await first.hold()
    first.beating = False
    again = await world.claimed(second, attempt=1)
    assert again.first_seq == 1
    first.chunk(1, "from the dead")
    second.chunk(2, "alive")
    second.finish(3)
    await eventually(lambda: world.api.of("result"))
    assert world.api.text() == "alive"
    assert world.api.seqs() == [0, 1, 2, 3]
    await eventually(lambda: not world.client.hexists(keys.WORKERS, "w1"))
    assert not world.client.exists(keys.credits_of("w1"))


async def test_a_stream_goes_on_elsewhere_when_its_worker_dies(world: World) -> None:
    first = await world.worker("w1")
    await world.api.send(job())
    await world.claimed(first)
    second = await world.worker("w2")
    first.chunk(1, "a")
    await eventually(world.api.text)
    await first.hold()
    first.beating = False
    again = await world.claimed(second, attempt=1)
    assert (again.first_seq, again.resume) == (2, Resume(token_ids=(1,)))
    first.chunk(2, "the dead speak")
    second.chunk(3, "b")
    second.finish(4)
    await eventually(lambda: world.api.of("result"))
    assert world.api.text() == "ab"
    assert world.api.seqs() == [0, 1, 2, 3, 4]
    assert len(world.api.of("usage")) == 1
    assert world.client.smembers(keys.credits_of("w2")) == set()


async def test_a_term_signal_lets_jobs_finish(world: World) -> None:
    world.bridge.grace_s = 10.0
    worker = await world.worker()
    await world.api.send(job())
    await world.claimed(worker)
    world.stop.set()
    await eventually(lambda: world.api.of("workers")[-1]["workers"][0]["draining"])
    await world.api.send(job("late"))
    assert (await eventually(lambda: world.api.of("error", "late")))[0]["code"] == "draining"
    worker.chunk(1, "a")
    worker.finish(2)
    assert await asyncio.wait_for(world.running, PATIENCE_S) is None
    assert world.api.of("result", "j1")


async def test_the_grace_ends_what_does_not_finish(world: World) -> None:
    worker = await world.worker()
    await world.api.send(job())
    await world.claimed(worker)
    world.stop.set()
    await asyncio.wait_for(world.running, PATIENCE_S)
    errors: list[dict[str, Any]] = await eventually(lambda: world.api.of("error", "j1"))
    assert errors[0]["code"] == "draining"
    await eventually(lambda: worker.cancels)
