"""A real bridge with its metrics port, and workers on which everything has happened that metrics tell of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bridge.protocol import Cancel, Install
from tasks.contract import BackendReport, BackendState, Failed, Finished, Usage
from tasks.figures import EngineFigures, GpuFigures, LoadFigures
from tests.bridge.builders import job
from tests.fakes.waiting import PATIENCE_S
from tests.integration.bridge_world import MODEL, FakeWorker, World, a_world, eventually

FIGURES: dict[str, Any] = {
    "engines": (
        EngineFigures(
            model=MODEL,
            slots_total=4,
            slots_busy=1,
            kv_cells_total=8192,
            kv_cells_used=100,
            steps=7,
            prompt_tokens=50,
            cached_tokens=20,
            completion_tokens=30,
            drafted_tokens=4,
            accepted_tokens=3,
        ),
    ),
    "loads": (
        LoadFigures(model=MODEL, count=2, seconds=3.5),
        LoadFigures(model=MODEL, outcome="out_of_memory", count=1, seconds=0.1),
    ),
    "gpu": (
        GpuFigures(
            uuid="GPU-1",
            name="H200",
            memory_used=2**30,
            memory_total=2**34,
            temperature_c=61.0,
            power_w=320.5,
            utilisation=0.75,
            ecc_errors=0,
        ),
    ),
    "backends": (
        BackendReport(product="ollama", state=BackendState.FOUND),
        BackendReport(product="vllm", state=BackendState.MISSING),
        BackendReport(product="lmstudio", state=BackendState.OFF),
    ),
}


async def metrics(world: World, accept: str = "text/plain") -> str:
    """The page as a scraper gets it."""
    server = world.bridge.metrics
    assert server is not None
    await eventually(lambda: server.bound is not None)
    assert server.bound is not None
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
        reply = await client.get(f"http://127.0.0.1:{await server.bound}/metrics", headers={"Accept": accept})
    return reply.text


async def families(world: World) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(await metrics(world))}


@asynccontextmanager
async def a_watched_fleet(redis_url: str, home: Path) -> AsyncIterator[World]:
    """A worker with one slot. A stream ended well, one failed, one was cancelled, one was lost and runs again, one
    waits; one install was done, one runs."""
    async with a_world(redis_url, home, metrics_port=0) as world:
        first = await world.worker(slots=1)
        first.info = first.info.model_copy(update=FIGURES)
        await _ended_well(world, first)
        await _failed(world, first)
        await _cancelled(world, first)
        await _lost(world, first)
        await _waiting(world)
        yield world


async def _ended_well(world: World, worker: FakeWorker) -> None:
    await world.api.send(job("good"))
    await world.claimed(worker, "good")
    worker.chunk(1, "a", "good")
    worker.chunk(2, "b", "good")
    await eventually(lambda: 2 in world.api.seqs("good"))
    attempt = worker.jobs["good"].attempt
    usage = Usage(prompt_tokens=9, cached_tokens=6, completion_tokens=2)
    worker.publish(Finished(job_id="good", attempt=attempt, seq=3, usage=usage))
    worker.release("good")
    await eventually(lambda: world.api.of("result", "good"))


async def _failed(world: World, worker: FakeWorker) -> None:
    await world.api.send(job("bad"))
    await world.claimed(worker, "bad")
    worker.publish(Failed(job_id="bad", attempt=0, seq=1, code="out_of_memory", message="no room"))
    worker.release("bad")
    await eventually(lambda: world.api.of("error", "bad"))


async def _cancelled(world: World, worker: FakeWorker) -> None:
    await world.api.send(job("left"))
    await world.claimed(worker, "left")
    worker.chunk(1, "a", "left")
    await eventually(lambda: 1 in world.api.seqs("left"))
    await world.api.send(Cancel(job_id="left"))
    await eventually(lambda: not world.bridge.session.open_jobs)
    worker.release("left")


async def _lost(world: World, worker: FakeWorker) -> None:
    await world.api.send(job("moved"))
    await world.claimed(worker, "moved")
    worker.publish(Failed(job_id="moved", attempt=0, seq=1, code="worker_error", message="no", retryable=True))
    worker.release("moved")
    await world.claimed(worker, "moved", attempt=1)


async def _waiting(world: World) -> None:
    await world.api.send(job("late"))
    await world.api.send(Install(request_id="i1", model="smollm2:135m", worker_id="host"))
    await eventually(lambda: world.bridge.session.install_tasks)
    world.bridge.reports.install_ended("i1.host", {}, None)
    await world.api.send(Install(request_id="i2", model="other:1b", worker_id="host"))
    await eventually(lambda: world.bridge.session.install_tasks)
