"""Health, models and catalogue, and jobs of the other kinds."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pendra
import pytest

from tasks.contract import JobKind
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import MODEL, WORKER, FakeBridge
from tests.ops.controlplane.running import Running


async def test_health_before_and_after(plane: Running, api: httpx.AsyncClient) -> None:
    starting = await api.get("/healthz", headers={"Authorization": ""})
    assert (starting.status_code, starting.json()) == (503, {"status": "starting", "workers": 0, "models": []})
    async with plane.bridge():
        await asyncio.to_thread(until, plane.ready)
        ready = await api.get("/healthz")
        assert ready.json() == {"status": "ready", "workers": 1, "models": ["minilm", MODEL]}
    await asyncio.to_thread(until, lambda: not plane.ready())


async def test_models_for_both_sdks(
    openai_client: openai.AsyncOpenAI, pendra_client: pendra.AsyncPendra, bridge: FakeBridge
) -> None:
    assert [m.id async for m in openai_client.models.list()] == ["minilm", MODEL]
    assert [m.id for m in await pendra_client.models.list()] == ["minilm", MODEL]
    one = await openai_client.models.retrieve(MODEL)
    assert (one.id, one.owned_by) == (MODEL, "pendra")
    with pytest.raises(openai.NotFoundError, match="no-such"):
        await openai_client.models.retrieve("org/no-such")


async def test_a_models_row_and_the_filter(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    rows = (await api.get("/api/v1/models?type=chat")).json()["data"]
    assert [row["id"] for row in rows] == [MODEL]
    row = rows[0]
    assert (row["object"], row["type"], row["context_length"], row["loaded"]) == ("model", "chat", 8192, True)
    assert row["workers"] == [WORKER]
    bad = await api.get("/v1/models?type=video")
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "type")


async def test_each_model_is_listed_once(plane: Running, api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    other = plane.bridge()
    other.worker_id = "wrk-other"
    await other.connect(advertise=False)
    await other.advertise(id="wrk-other-cpu0")
    two = {WORKER, "wrk-other-cpu0"}
    await asyncio.to_thread(until, lambda: plane.ready() and len(plane.plane.hub.connected()[1].workers) == 1)
    rows = (await api.get("/v1/models?type=chat")).json()["data"]
    assert [row["id"] for row in rows] == [MODEL]
    assert set(rows[0]["workers"]) == two
    await other.close()


async def test_the_catalogue_is_public(api: httpx.AsyncClient) -> None:
    reply = await api.get("/api/v1/catalogue", headers={"Authorization": ""})
    assert reply.status_code == 200
    entry = next(model for model in reply.json()["data"] if model["id"] == MODEL)
    assert entry["variants"][0]["gguf_sha256"].startswith("b179c952")


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/v1/embeddings", JobKind.EMBEDDINGS, {"model": "minilm", "input": ["x"]}),
        ("/api/v1/embeddings", JobKind.EMBEDDINGS, {"model": "minilm", "input": "x", "stream": True}),
        ("/v1/completions", JobKind.COMPLETION, {"model": MODEL, "prompt": "x"}),
    ],
)
async def test_other_kinds(
    api: httpx.AsyncClient, bridge: FakeBridge, path: str, kind: JobKind, body: dict[str, Any]
) -> None:
    asking = asyncio.create_task(api.post(path, json=body))
    job = await bridge.job()
    assert (job.kind, job.stream, job.body) == (kind, False, body)
    await bridge.accept(job)
    await bridge.finish(job, 1, data=json.dumps({"object": "list", "data": [1]}))
    reply = (await asking).json()
    assert reply["data"] == [1]
    assert reply["pendra"]["worker"]["id"] == WORKER


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", {"model": "minilm"}, "input"),
        ("/v1/rerank", {"model": "minilm", "query": "x"}, "documents"),
        ("/v1/completions", {"model": MODEL}, "prompt"),
        ("/v1/images/generations", {"model": MODEL}, "prompt"),
    ],
)
async def test_what_each_kind_needs(api: httpx.AsyncClient, path: str, body: dict[str, Any], param: str) -> None:
    reply = await api.post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
