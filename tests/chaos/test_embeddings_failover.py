"""A worker dies while it computes embeddings: nothing of them was delivered, so another computes them all, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from tests.chaos.cluster import Cluster, a_cluster, eventually
from tests.chaos.test_moments import holder, job_of, settled

ASK = {"model": "bert", "input": ["the cat sat", "paris", "capital of berlin"]}


async def embed(http: httpx.AsyncClient) -> list[list[float]]:
    reply = await http.post("/v1/embeddings", json=ASK)
    assert reply.status_code == httpx.codes.OK, reply.text
    assert reply.json()["usage"]["prompt_tokens"] > 0
    return [row["embedding"] for row in reply.json()["data"]]


async def computing(cluster: Cluster) -> None:
    await eventually(lambda: (job_of(cluster) or {}).get(b"worker"))


async def test_a_killed_workers_embeddings_are_computed_by_another(tmp_path: Path) -> None:
    async with a_cluster(tmp_path, workers=2, slots=2, CHAOS_EMBED_S="0.7") as cluster:
        headers = {"Authorization": f"Bearer {cluster.key}"}
        async with httpx.AsyncClient(base_url=cluster.url, headers=headers, timeout=60) as http:
            undisturbed = await embed(http)
            asked = asyncio.ensure_future(embed(http))
            await computing(cluster)
            victim = holder(cluster)
            victim.kill()
            assert await asyncio.wait_for(asked, 30) == undisturbed
            victim.start()
            assert sum(part.says("attempt=1") for part in cluster.workers) > 0
            asked = asyncio.ensure_future(embed(http))
            await computing(cluster)
            asked.cancel()
            await eventually(lambda: job_of(cluster) is None)
        await settled(cluster)
