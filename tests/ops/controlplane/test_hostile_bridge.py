"""What an approved bridge says wrongly harms neither the API's clock nor a client's reply. Found by tests/fuzz."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from bridge.protocol import AuditCheckpoint, ResultFrame, UsageFrame, decode_bridge, encode
from tasks.contract import Usage
from tasks.errors import BadRequestError
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import MODEL, RESULT, WORKER, FakeBridge
from tests.ops.controlplane.running import Running

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("said", "code", "waits"),
    [
        ({"code": "x\r\nset-cookie: a=b"}, "worker_error", None),
        ({"code": "größe"}, "worker_error", None),
        ({"retry_after": float("inf")}, "worker_error", None),
        ({"retry_after": -3.0}, "worker_error", None),
        ({"code": "busy", "retry_after": 2.5}, "busy", "3"),
    ],
)
async def test_an_errors_code_and_wait_are_fit_for_headers(
    api: httpx.AsyncClient, bridge: FakeBridge, said: dict[str, object], code: str, waits: str | None
) -> None:
    asking = asyncio.create_task(api.post("/v1/chat/completions", json=CHAT))
    job = await bridge.job()
    await bridge.fail(job, 0, **said)
    reply = await asking
    assert (reply.status_code, reply.json()["code"]) == (502, code)
    assert (reply.headers["x-pendra-error-code"], reply.headers.get("retry-after")) == (code, waits)


async def test_counts_that_no_request_has_are_cut(plane: Running, api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    asking = asyncio.create_task(api.post("/v1/chat/completions", json=CHAT))
    job = await bridge.job()
    await bridge.accept(job)
    usage = Usage(prompt_tokens=10**40, completion_tokens=-5)
    await bridge.send(UsageFrame(job_id=job.job_id, model=MODEL, worker_id=WORKER, usage=usage))
    await bridge.send(ResultFrame(job_id=job.job_id, seq=1, **{**RESULT, "data": "{}"}))
    assert (await asking).status_code == 200
    await asyncio.to_thread(until, lambda: bool(plane.plane.usage.totals()))
    (total,) = plane.plane.usage.totals()
    assert (total.prompt_tokens, total.completion_tokens) == (2**32, 0)


def test_a_checkpoint_of_a_line_that_no_log_has() -> None:
    about = {"log": "l", "head": "ab" * 32, "time": 1.0, "public_key": "A", "signature": "A"}
    assert decode_bridge(encode(AuditCheckpoint(line=5, **about)))
    with pytest.raises(BadRequestError):
        decode_bridge(encode(AuditCheckpoint.model_construct(type="audit_checkpoint", line=2**63, **about)))
