"""One span for a request, under the client's if it names one; the bridge is told to go on under it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from ops.controlplane.traces import REQUEST
from tasks import tracing
from tasks.tracing import Fact
from tests.fakes.traced import PARENT, SAMPLED, TRACE, UNSAMPLED, Traced, facts
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import MODEL, WORKER, FakeBridge

SECRET = "quagmirelet"
CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": f"say {SECRET}"}]}


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    """Before the control plane starts."""
    made = Traced("controlplane")
    monkeypatch.setattr(tracing, "start", lambda _part: made.tracer)
    yield made
    assert SECRET not in made.text


async def ended(traced: Traced) -> None:
    await asyncio.to_thread(until, lambda: traced.spans)


async def test_a_reply(api: httpx.AsyncClient, bridge: FakeBridge, traced: Traced) -> None:
    serving = asyncio.create_task(bridge.serve_whole(SECRET))
    reply = await api.post(CHAT, json=BODY, headers={"traceparent": SAMPLED, "x-mine": SECRET})
    job = await serving
    await ended(traced)
    span = traced.the(REQUEST)
    assert (span.kind, f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (
        SpanKind.SERVER,
        TRACE,
        PARENT,
    )
    assert job.traceparent == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert facts(span) == {
        "pendra.request.id": reply.headers["x-request-id"],
        "pendra.kind": "chat",
        "pendra.private": False,
        "pendra.outcome": "finished",
        "pendra.worker.id": WORKER,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "pendra",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": False,
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 0,
    }


@pytest.mark.parametrize("given", ["", SECRET, SAMPLED.upper(), f"{SAMPLED}-{SECRET}", f"00-{'0' * 32}-{PARENT}-01"])
async def test_a_malformed_parent_is_ignored(
    api: httpx.AsyncClient, bridge: FakeBridge, traced: Traced, given: str
) -> None:
    serving = asyncio.create_task(bridge.serve_stream(["a"]))
    reply = await api.post(CHAT, json={**BODY, "stream": True}, headers={"traceparent": given})
    job = await serving
    await ended(traced)
    span = traced.the(REQUEST)
    assert reply.status_code == 200
    assert span.parent is None
    assert job.traceparent.split("-")[1] == f"{span.context.trace_id:032x}" != TRACE


async def test_what_the_client_does_not_sample(api: httpx.AsyncClient, bridge: FakeBridge, traced: Traced) -> None:
    serving = asyncio.create_task(bridge.serve_whole("a"))
    await api.post(CHAT, json=BODY, headers={"traceparent": UNSAMPLED})
    assert (await serving).traceparent.endswith("-00")
    assert traced.spans == []


async def test_a_worker_that_fails(api: httpx.AsyncClient, bridge: FakeBridge, traced: Traced) -> None:
    asking = asyncio.create_task(api.post(CHAT, json=BODY))
    await bridge.fail(await bridge.job(), 0, message=SECRET, code="out_of_memory")
    assert (await asking).status_code == 502
    await ended(traced)
    span = traced.the(REQUEST)
    assert (facts(span)[Fact.OUTCOME], facts(span)[Fact.CODE]) == ("failed", "out_of_memory")
    assert (span.status.status_code, span.status.description, span.events) == (StatusCode.ERROR, None, ())


async def test_a_refused_request_names_no_model(api: httpx.AsyncClient, bridge: FakeBridge, traced: Traced) -> None:
    reply = await api.post(CHAT, json={**BODY, "model": SECRET})
    await ended(traced)
    span = traced.the(REQUEST)
    assert facts(span)[Fact.OUTCOME] == "refused"
    assert (facts(span)[Fact.STATUS], facts(span)[Fact.CODE]) == (reply.status_code, reply.json()["code"])
    assert Fact.MODEL not in facts(span)
