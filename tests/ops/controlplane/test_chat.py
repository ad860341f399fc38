"""One chat request through the real server: what both official SDKs see, and what goes over the wire."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pendra
import pytest

from ops.controlplane.db import Database
from tasks.contract import JobKind, Notice
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import MODEL, WORKER, FakeBridge
from tests.ops.controlplane.running import Running

MESSAGES: list[Any] = [{"role": "user", "content": "say Grüße, please"}]
CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": MESSAGES}


def payloads(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]


async def test_openai_sdk_streams(openai_client: openai.AsyncOpenAI, bridge: FakeBridge) -> None:
    serving = asyncio.create_task(bridge.serve_stream(["Grü", "ße", "\n"]))
    stream = await openai_client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    job = await serving
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Grüße\n"
    assert [c.usage.total_tokens for c in chunks if c.usage] == [18]
    assert {c.id for c in chunks} == {f"chatcmpl-w-{job.job_id}"}


async def test_pendra_sdk_streams_and_names_the_worker_last(
    pendra_client: pendra.AsyncPendra, bridge: FakeBridge
) -> None:
    serving = asyncio.create_task(bridge.serve_stream(["a", "b"]))
    stream = await pendra_client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    job = await serving
    assert stream.worker is not None
    assert (stream.worker.id, stream.worker.name, stream.worker.version) == (WORKER, "Büro-Rechner", "1.2.3")
    assert stream.request_id == job.job_id
    assert [c for c in chunks if c.pendra is not None] == [chunks[-1]]
    timing = chunks[-1].timing
    assert timing is not None
    assert (timing.ttft_ms, timing.tokens_per_second, timing.queue_wait_ms, timing.worker_queue_wait_ms) == (
        13,
        88.12,
        5,
        1,
    )
    assert timing.cold_start is False
    assert timing.model_load_ms is None


async def test_a_stream_ends_with_usage_trailer_done(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    serving = asyncio.create_task(bridge.serve_stream(["a"]))
    reply = await api.post(CHAT, json={**BODY, "stream": True})
    job = await serving
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["x-request-id"] == job.job_id
    assert "x-worker-id" not in reply.headers
    *_, usage, trailer, done = payloads(reply.text)
    assert done == "[DONE]"
    assert json.loads(usage)["usage"]["prompt_tokens"] == 11
    last = json.loads(trailer)
    assert set(last) == {"id", "object", "created", "model", "choices", "pendra"}
    assert (last["object"], last["created"], last["model"], last["choices"]) == (
        "chat.completion.chunk",
        job.created,
        MODEL,
        [],
    )
    assert set(last["pendra"]) == {"worker", "request_id", "timing"}


async def test_a_notice_rides_on_its_own_empty_chunk(pendra_client: pendra.AsyncPendra, bridge: FakeBridge) -> None:
    notice = Notice(code="truncated_during_reasoning", message="raise max_tokens")
    serving = asyncio.create_task(bridge.serve_stream(["a"], notice=notice))
    stream = await pendra_client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    noticed = [c async for c in stream if c.pendra and c.pendra.notice]
    await serving
    assert [c.pendra.notice.code for c in noticed if c.pendra and c.pendra.notice] == ["truncated_during_reasoning"]
    assert not noticed[0].choices[0].delta.content
    assert stream.worker is not None


async def test_openai_sdk_whole_reply(openai_client: openai.AsyncOpenAI, bridge: FakeBridge) -> None:
    serving = asyncio.create_task(bridge.serve_whole("Grüße"))
    reply = await openai_client.chat.completions.create(model=MODEL, messages=MESSAGES)
    await serving
    assert reply.choices[0].message.content == "Grüße"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 7


async def test_pendra_sdk_whole_reply_with_notice(pendra_client: pendra.AsyncPendra, bridge: FakeBridge) -> None:
    notice = Notice(code="strict_schema_not_enforced", message="validate it")
    serving = asyncio.create_task(bridge.serve_whole("x", notice=notice))
    reply = await pendra_client.chat.completions.create(model=MODEL, messages=MESSAGES)
    job = await serving
    assert isinstance(reply, pendra.types.chat.ChatCompletion)
    assert reply.pendra is not None
    assert reply.pendra.worker is not None
    assert (reply.pendra.worker.id, reply.pendra.worker.version) == (WORKER, "1.2.3")
    assert reply.pendra.request_id == job.job_id
    assert reply.pendra.notice is not None
    assert reply.pendra.notice.code == "strict_schema_not_enforced"


async def test_headers_of_a_whole_reply(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    serving = asyncio.create_task(bridge.serve_whole("x"))
    reply = await api.post("/api/v1/chat/completions", json=BODY)
    job = await serving
    assert reply.headers["x-request-id"] == job.job_id
    assert reply.headers["x-worker-id"] == WORKER
    assert reply.headers["x-worker-name"] == "UTF-8''B%C3%BCro-Rechner"
    assert "queue;dur=3.2" in reply.headers["server-timing"]
    assert "total;dur=" in reply.headers["server-timing"]


async def test_the_job_frame_carries_the_request(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    serving = asyncio.create_task(bridge.serve_whole("x"))
    body = {**BODY, "temperature": 0, "ignore_eos": True}
    await api.post(CHAT, json=body, headers={"X-Pendra-Worker-Id": WORKER})
    job = await serving
    assert job.body == body
    assert (job.kind, job.model, job.stream, job.pin) == (JobKind.CHAT, MODEL, False, WORKER)
    assert job.tenant.startswith("key-")
    assert job.affinity
    assert job.deadline is None


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_before_the_first_piece_is_an_http_status(
    api: httpx.AsyncClient, bridge: FakeBridge, *, stream: bool
) -> None:
    asking = asyncio.create_task(api.post(CHAT, json={**BODY, "stream": stream}))
    job = await bridge.job()
    await bridge.accept(job)
    await bridge.fail(job, 1, code="context_length_exceeded", message="9000 of 8192", status=400, param="messages")
    reply = await asking
    assert reply.status_code == 400
    assert reply.headers["x-pendra-error-code"] == "context_length_exceeded"
    assert reply.json() == {
        "detail": "9000 of 8192",
        "code": "context_length_exceeded",
        "error": {
            "message": "9000 of 8192",
            "type": "invalid_request_error",
            "code": "context_length_exceeded",
            "param": "messages",
        },
    }
    await bridge.acked(job.job_id, 1)


async def test_busy_tells_when_to_retry(openai_client: openai.AsyncOpenAI, bridge: FakeBridge) -> None:
    async def refuse() -> None:
        refusal = {"code": "queue_full", "message": "full", "status": 429, "retry_after": 6.2, "position": 251}
        await bridge.fail(await bridge.job(), 0, **refusal)

    refusing = asyncio.create_task(refuse())
    with pytest.raises(openai.RateLimitError) as caught:
        await openai_client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    await refusing
    headers = caught.value.response.headers
    assert (headers["retry-after"], headers["x-pendra-queue-position"]) == ("7", "251")
    assert caught.value.response.json()["error"]["queue_position"] == 251


async def break_off(bridge: FakeBridge) -> None:
    job = await bridge.job()
    await bridge.accept(job)
    await bridge.chunk(job, 1, "half")
    await bridge.fail(job, 2, code="out_of_memory", message="no room", status=502)


async def test_an_error_within_a_stream_reaches_the_pendra_sdk(
    pendra_client: pendra.AsyncPendra, bridge: FakeBridge
) -> None:
    serving = asyncio.create_task(break_off(bridge))
    stream = await pendra_client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    assert (await anext(stream)).choices[0].delta.content == "half"
    with pytest.raises(pendra._exceptions.APIStreamError) as caught:
        await anext(stream)
    await serving
    assert (caught.value.message, caught.value.status_code, caught.value.worker_id) == ("no room", 502, WORKER)
    assert caught.value.request_id


async def test_an_error_within_a_stream_reaches_the_openai_sdk(
    openai_client: openai.AsyncOpenAI, bridge: FakeBridge
) -> None:
    serving = asyncio.create_task(break_off(bridge))
    stream = await openai_client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="no room") as caught:
        _ = [chunk async for chunk in stream]
    await serving
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error_code"] == "out_of_memory"


async def test_a_stream_with_an_error_still_ends_with_done(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    serving = asyncio.create_task(break_off(bridge))
    reply = await api.post(CHAT, json={**BODY, "stream": True})
    await serving
    assert reply.status_code == 200
    assert payloads(reply.text)[-1] == "[DONE]"


async def test_a_reply_that_is_no_json_is_the_workers_fault(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    async def serve() -> None:
        job = await bridge.job()
        await bridge.accept(job)
        await bridge.finish(job, 1, data="[1]")

    serving = asyncio.create_task(serve())
    reply = await api.post(CHAT, json=BODY)
    await serving
    assert (reply.status_code, reply.json()["code"]) == (502, "worker_error")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_the_first_piece_cancels(
    plane: Running, api: httpx.AsyncClient, bridge: FakeBridge, *, stream: bool
) -> None:
    asking = asyncio.create_task(api.post(CHAT, json={**BODY, "stream": stream}))
    job = await bridge.job()
    asking.cancel()
    assert await bridge.cancelled() == job.job_id
    assert plane.plane.hub.open_jobs == 0


async def test_a_client_that_leaves_within_a_stream_cancels(
    plane: Running, api: httpx.AsyncClient, bridge: FakeBridge
) -> None:
    async def serve() -> str:
        job = await bridge.job()
        await bridge.accept(job)
        await bridge.chunk(job, 1, "a")
        return job.job_id

    serving = asyncio.create_task(serve())
    async with api.stream("POST", CHAT, json={**BODY, "stream": True}) as reply:
        await anext(reply.aiter_lines())
    assert await bridge.cancelled() == await serving
    assert plane.plane.hub.open_jobs == 0


async def test_everything_is_acknowledged(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    asking = asyncio.create_task(api.post(CHAT, json={**BODY, "stream": True}))
    job = await bridge.job()
    await bridge.accept(job)
    await bridge.chunk(job, 1, "a")
    await bridge.acked(job.job_id, 1)
    await bridge.finish(job, 2)
    await bridge.acked(job.job_id, 2)
    await asking


async def test_sixteen_streams_at_once_do_not_mix(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    async def ask(number: int) -> str:
        messages = [{"role": "user", "content": str(number)}]
        reply = await api.post(CHAT, json={"model": MODEL, "messages": messages, "stream": True})
        chunks = [json.loads(p) for p in payloads(reply.text)[:-1]]
        return "".join(c["choices"][0]["delta"]["content"] for c in chunks if c["choices"])

    async def serve() -> None:
        jobs = [await bridge.job() for _ in range(16)]
        for job in jobs:
            await bridge.accept(job)
        for seq in range(1, 6):
            for job in jobs:
                await bridge.chunk(job, seq, f"{job.body['messages'][0]['content']}.{seq} ")
        for job in jobs:
            await bridge.finish(job, 6)

    serving = asyncio.create_task(serve())
    replies = await asyncio.gather(*(ask(number) for number in range(16)))
    await serving
    assert replies == ["".join(f"{number}.{seq} " for seq in range(1, 6)) for number in range(16)]


async def test_usage_is_counted_without_text(plane: Running, api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    secret = "pelican-in-the-prompt"
    serving = asyncio.create_task(bridge.serve_whole("walrus-in-the-reply"))
    await api.post(CHAT, json={"model": MODEL, "messages": [{"role": "user", "content": secret}]})
    await serving
    db = Database(plane.home)
    try:
        row = until(lambda: db.one("SELECT key_id, kind, model, worker_id, prompt_tokens, cached_tokens FROM usage"))
    finally:
        db.close()
    assert row[1:] == ("chat", MODEL, WORKER, 11, 2)
    assert row[0].startswith("key-")
    for path in plane.home.iterdir():
        raw = path.read_bytes()
        assert b"pelican" not in raw
        assert b"walrus" not in raw


async def test_nothing_of_a_request_is_logged(
    api: httpx.AsyncClient, bridge: FakeBridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="pendra")
    serving = asyncio.create_task(bridge.serve_stream(["walrus"]))
    await api.post(CHAT, json={"model": MODEL, "messages": [{"role": "user", "content": "pelican"}], "stream": True})
    await serving
    await api.post(CHAT, content=b'{"model": "pelican", oops')
    assert any(getattr(r, "action", "") == "request.done" for r in caplog.records)
    assert "pelican" not in caplog.text
    assert "walrus" not in caplog.text
    assert "pdr_sk_" not in caplog.text
