"""The link drops while requests run: nothing lost, nothing doubled, and an end to the waiting."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.protocol import Cancel, JobFrame, JobMark
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import MODEL, FakeBridge
from tests.ops.controlplane.running import Running, serving

BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


def words(reply: httpx.Response) -> str:
    payloads = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line.startswith("data: {")]
    chunks = [json.loads(payload) for payload in payloads]
    return "".join(c["choices"][0]["delta"]["content"] for c in chunks if c.get("choices"))


async def begin(bridge: FakeBridge, api: httpx.AsyncClient) -> tuple[asyncio.Task[httpx.Response], JobFrame]:
    """A stream of which two pieces (seq 1, 2) have arrived."""
    asking = asyncio.create_task(api.post(CHAT, json={**BODY, "stream": True}))
    job = await bridge.job()
    await bridge.accept(job)
    await bridge.chunk(job, 1, "a")
    await bridge.chunk(job, 2, "b")
    await bridge.acked(job.job_id, 2)
    return asking, job


async def test_a_stream_goes_on_after_the_link_dropped(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    asking, job = await begin(bridge, api)
    await bridge.drop()
    bridge.resume_with = {job.job_id: 5}
    welcome = await bridge.connect()
    assert welcome.resume == (JobMark(job_id=job.job_id, seq=2),)
    for seq, text in [(1, "a"), (2, "b"), (3, "c"), (3, "c"), (4, "d")]:  # replayed from too early, and doubled
        await bridge.chunk(job, seq, text)
    await bridge.finish(job, 5)
    reply = await asking
    assert words(reply) == "abcd"
    assert reply.text.endswith("data: [DONE]\n\n")
    await bridge.acked(job.job_id, 5)


async def test_a_result_that_was_on_its_way_is_not_lost(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    asking = asyncio.create_task(api.post(CHAT, json=BODY))
    job = await bridge.job()
    await bridge.drop()
    bridge.resume_with = {job.job_id: 1}
    assert (await bridge.connect()).resume == (JobMark(job_id=job.job_id, seq=-1),)
    await bridge.accept(job)
    message = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    await bridge.finish(job, 1, data=json.dumps({"id": "1", "choices": [message]}))
    assert (await asking).json()["choices"] == [message]


async def test_a_hole_ends_the_stream_rather_than_hide_it(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    asking, job = await begin(bridge, api)
    await bridge.chunk(job, 4, "d")
    reply = await asking
    assert '"error_code":"stream_gap"' in reply.text
    assert words(reply) == "ab"
    assert await bridge.cancelled() == job.job_id


async def test_a_restarted_bridge_gets_a_request_again_that_nobody_has_seen_a_word_of(
    api: httpx.AsyncClient, bridge: FakeBridge
) -> None:
    asking = asyncio.create_task(api.post(CHAT, json={**BODY, "stream": True}))
    job = await bridge.job()
    await bridge.accept(job)
    await bridge.drop()
    await bridge.connect()
    again = await bridge.job()
    assert again.job_id != job.job_id
    assert again.body == job.body
    await bridge.chunk(job, 1, "stale")
    await bridge.accept(again)
    await bridge.chunk(again, 1, "fresh")
    await bridge.finish(again, 2)
    reply = await asking
    assert words(reply) == "fresh"
    assert reply.headers["x-request-id"] == job.job_id


async def test_a_restarted_bridge_that_lost_half_a_stream(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    asking, _ = await begin(bridge, api)
    await bridge.drop()
    await bridge.connect()
    reply = await asking
    assert words(reply) == "ab"
    assert '"error_code":"worker_lost"' in reply.text


async def test_a_request_is_sent_again_only_so_often(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    asking = asyncio.create_task(api.post(CHAT, json=BODY))
    for _ in range(3):
        await bridge.job()
        await bridge.drop()
        await bridge.connect()
    reply = await asking
    assert (reply.status_code, reply.json()["code"]) == (502, "worker_lost")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_bridge_that_stays_away(tmp_path: Path, *, stream: bool) -> None:
    async with serving(tmp_path, bridge_grace_s=0.2) as (api, bridge, _):
        asking = asyncio.create_task(api.post(CHAT, json={**BODY, "stream": stream}))
        await bridge.job()
        await bridge.drop()
        reply = await asking
        assert (reply.status_code, reply.json()["code"]) == (502, "worker_lost")
        assert "did not come back" in reply.json()["detail"]


async def test_what_nobody_waits_for_any_more_is_not_resumed(
    plane: Running, api: httpx.AsyncClient, bridge: FakeBridge
) -> None:
    asking, job = await begin(bridge, api)
    await bridge.drop()
    asking.cancel()
    await asyncio.to_thread(until, lambda: plane.plane.hub.open_jobs == 0)
    bridge.resume_with = {job.job_id: 7}
    assert (await bridge.connect()).resume == ()
    assert (await bridge.next(Cancel)).job_id == job.job_id
