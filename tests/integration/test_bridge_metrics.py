"""The metrics port of a real bridge: what it says of what really happened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bridge.builders import job
from tests.integration.bridge_world import World, a_world, eventually
from tests.integration.watched_fleet import a_watched_fleet, families, metrics

pytestmark = pytest.mark.integration


@pytest.fixture
async def fleet(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with a_watched_fleet(redis_url, tmp_path) as world:
        yield world


async def values(world: World, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """These labels' values → value, of one sample name."""
    found = await families(world)
    samples = [sample for family in found.values() for sample in family.samples if sample.name == name]
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in samples}


async def test_jobs_tokens_and_failovers_are_counted(fleet: World) -> None:
    assert await values(fleet, "pendra_jobs_total", "model", "kind", "outcome", "code") == {
        ("m", "chat", "finished", "ok"): 1,
        ("m", "chat", "failed", "out_of_memory"): 1,
        ("m", "chat", "cancelled", "ok"): 1,
    }
    tokens = await values(fleet, "pendra_tokens_total", "model", "worker", "type")
    assert (tokens["m", "w1", "prompt"], tokens["m", "w1", "cached"], tokens["m", "w1", "completion"]) == (9, 6, 2)
    assert await values(fleet, "pendra_wasted_tokens_total", "model", "outcome") == {("m", "cancelled"): 1}
    assert await values(fleet, "pendra_failovers_total", "model", "worker", "code") == {
        ("m", "w1", "worker_error"): 1
    }


async def test_histograms_have_every_observation(fleet: World) -> None:
    assert await values(fleet, "pendra_queue_wait_seconds_count", "model") == {("m",): 4}
    assert await values(fleet, "pendra_time_to_first_token_seconds_count", "model") == {("m",): 2}
    assert await values(fleet, "pendra_inter_token_seconds_count", "model") == {("m",): 1}
    assert await values(fleet, "pendra_job_seconds_count", "model") == {("m",): 1}


async def test_what_waits_and_what_runs_is_there(fleet: World) -> None:
    assert await values(fleet, "pendra_queue_depth", "model") == {("m",): 1}
    assert (await values(fleet, "pendra_queue_oldest_seconds", "model"))["m",] > 0
    states = await values(fleet, "pendra_jobs_open", "state")
    assert (states["waiting",], states["running",]) == (1, 1)
    assert await values(fleet, "pendra_installs_running") == {(): 1}
    assert await values(fleet, "pendra_installs_total", "node", "code") == {("host", "ok"): 1}
    assert await values(fleet, "pendra_bridge_linked") == {(): 1}
    assert await values(fleet, "pendra_redis_up") == {(): 1}


async def test_workers_engines_loads_gpus_and_backends_are_those_of_the_heartbeat(fleet: World) -> None:
    await eventually(lambda: fleet.bridge.session.readings.picture(0.0).workers[0][0].engines)
    assert await values(fleet, "pendra_engine_kv_cells_used", "worker", "model") == {("w1", "m"): 100}
    assert await values(fleet, "pendra_worker_slots_busy", "worker") == {("w1",): 1}
    assert await values(fleet, "pendra_model_loads_total", "worker", "model", "outcome") == {
        ("w1", "m", "ok"): 2,
        ("w1", "m", "out_of_memory"): 1,
    }
    assert await values(fleet, "pendra_gpu_temperature_celsius", "worker", "gpu") == {("w1", "GPU-1"): 61}
    assert await values(fleet, "pendra_backend_up", "node", "product") == {("host", "ollama"): 1, ("host", "vllm"): 0}
    assert await values(fleet, "pendra_model_workers_ready", "model") == {("m",): 1}


async def test_openmetrics_is_spoken_too(fleet: World) -> None:
    page = await metrics(fleet, "application/openmetrics-text; version=1.0.0")
    assert page.endswith("# EOF\n")


async def test_nothing_of_a_request_is_on_the_page(redis_url: str, tmp_path: Path) -> None:
    async with a_world(redis_url, tmp_path, metrics_port=0) as world:
        worker = await world.worker()
        await world.api.send(job("secret-job", body={"messages": ["SECRET"]}, tenant="key-of-somebody"))
        await world.api.send(job("j2", model="SECRET-model"))
        await world.claimed(worker, "secret-job")
        worker.chunk(1, "SECRET", "secret-job")
        worker.finish(2, "secret-job")
        await eventually(lambda: world.api.of("result", "secret-job"))
        page = await metrics(world)
    assert "pendra_jobs_total" in page
    for word in ("SECRET", "secret-job", "key-of-somebody"):
        assert word not in page


async def test_a_bridge_whose_port_is_taken_serves_all_the_same(redis_url: str, tmp_path: Path) -> None:
    async with a_world(redis_url, tmp_path / "one", metrics_port=0) as first:
        server = first.bridge.metrics
        assert server is not None
        await eventually(lambda: server.bound is not None and server.bound.done())
        assert server.bound is not None
        taken = server.bound.result()
        async with a_world(redis_url, tmp_path / "two", metrics_port=taken, worker_id="wrk-other") as second:
            worker = await second.worker()
            await second.api.send(job())
            await second.claimed(worker)
            metrics_of_second = second.bridge.metrics
            assert metrics_of_second is not None
            assert metrics_of_second.bound is not None
            assert not metrics_of_second.bound.done()
