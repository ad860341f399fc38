"""Long silence: signs of life, timeouts, and how errors look once the 200 is out. Timers are shortened."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pendra
import pytest

from ops.controlplane.config import Limits
from tests.ops.controlplane.fake_bridge import MODEL
from tests.ops.controlplane.running import serving

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
BODY = {"model": MODEL, "messages": MESSAGES}
CHAT = "/v1/chat/completions"


async def test_comments_go_out_while_a_stream_is_silent(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, keepalive_after_s=0.1, keepalive_every_s=0.05) as (api, bridge, _),
        api.stream("POST", CHAT, json={**BODY, "stream": True}) as reply,
    ):
        assert reply.status_code == 200
        lines = reply.aiter_lines()
        for _ in range(2):
            assert await anext(lines) == ": keep-alive"
            assert await anext(lines) == ""
        await bridge.serve_stream(["late"])
        rest = [line async for line in lines]
        assert any("late" in line for line in rest)
        assert rest[-2] == "data: [DONE]"


async def test_both_sdks_ignore_the_signs_of_life(tmp_path: Path) -> None:
    async with serving(tmp_path, keepalive_after_s=0.1, keepalive_every_s=0.05) as (_, bridge, running):
        client = pendra.AsyncPendra(api_key=running.key, base_url=running.url)
        for stream in (True, False):
            asking = asyncio.create_task(ask(client, stream=stream))
            job = await bridge.job()
            await asyncio.sleep(0.3)  # silence is what is tested
            await bridge.accept(job)
            await (bridge.chunk(job, 1, "late") if stream else bridge.finish(job, 1, data=whole(job.job_id)))
            if stream:
                await bridge.finish(job, 2)
            assert await asking == "late"
        await client.close()


async def ask(client: pendra.AsyncPendra, *, stream: bool) -> str | None:
    reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=stream)
    if isinstance(reply, pendra.types.chat.ChatCompletion):
        return reply.choices[0].message.content
    return "".join([c.choices[0].delta.content or "" async for c in reply if c.choices])


def whole(job_id: str) -> str:
    message = '{"index":0,"message":{"role":"assistant","content":"late"},"finish_reason":"stop"}'
    return f'{{"id":"{job_id}","object":"chat.completion","created":1,"model":"{MODEL}","choices":[{message}]}}'


@pytest.mark.parametrize("stream", [True, False])
async def test_nothing_heard_is_a_504_and_the_job_is_cancelled(tmp_path: Path, *, stream: bool) -> None:
    async with serving(tmp_path, idle_s=0.2) as (api, bridge, _):
        reply = await api.post(CHAT, json={**BODY, "stream": stream})
        assert (reply.status_code, reply.json()["code"]) == (504, "timeout")
        assert "any worker" in reply.json()["detail"]
        assert await bridge.cancelled() == (await bridge.job()).job_id


@pytest.mark.parametrize("stream", [True, False])
async def test_a_timeout_after_signs_of_life_is_in_band(tmp_path: Path, *, stream: bool) -> None:
    async with serving(tmp_path, idle_s=1.0, keepalive_after_s=0.1) as (api, _, running):
        reply = await api.post(CHAT, json={**BODY, "stream": stream})
        assert reply.status_code == 200
        assert '"error_code":"timeout"' in reply.text
        client = pendra.AsyncPendra(api_key=running.key, base_url=running.url)
        with pytest.raises(pendra._exceptions.APIStreamError) as caught:
            await ask(client, stream=stream)
        assert caught.value.status_code == 504
        await client.close()


async def test_a_worker_that_generates_a_whole_reply_may_be_silent_longer(tmp_path: Path) -> None:
    async with serving(tmp_path, idle_s=1.5, working_idle_s=60) as (api, bridge, _):
        asking = asyncio.create_task(api.post(CHAT, json=BODY))
        job = await bridge.job()
        await bridge.accept(job)
        await asyncio.sleep(2.0)  # silence is what is tested
        await bridge.finish(job, 1, data=whole(job.job_id))
        assert (await asking).status_code == 200


async def test_embeddings_have_a_limit_in_all(tmp_path: Path) -> None:
    async with serving(tmp_path, short_s=0.3) as (api, bridge, _):
        asking = asyncio.create_task(api.post("/v1/embeddings", json={"model": "minilm", "input": "x"}))
        job = await bridge.job()
        assert job.deadline is not None
        await bridge.accept(job)
        reply = await asking
        assert (reply.status_code, reply.json()["code"]) == (504, "timeout")
        assert await bridge.cancelled() == job.job_id


async def test_a_reader_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    async with serving(tmp_path, Limits(unread_bytes=200_000)) as (api, bridge, running):

        async def flood() -> str:
            job = await bridge.job()
            await bridge.accept(job)
            for seq in range(1, 600):
                await bridge.chunk(job, seq, "x" * 50_000)
            return job.job_id

        flooding = asyncio.create_task(flood())
        async with api.stream("POST", CHAT, json={**BODY, "stream": True}) as reply:
            assert await bridge.cancelled() == await flooding
            with pytest.raises(httpx.RemoteProtocolError):
                _ = [line async for line in reply.aiter_lines()]
        assert running.plane.hub.open_jobs == 0
