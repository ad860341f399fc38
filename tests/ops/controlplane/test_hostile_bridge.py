"""What an approved bridge says wrongly harms neither the API's clock nor a client's reply. Found by tests/fuzz."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from bridge.protocol import AuditCheckpoint, ResultFrame, UsageFrame, decode_bridge, encode
from ops.controlplane.install_record import Action, InstallRecord, State, finished
from ops.controlplane.jobs import Ask
from ops.controlplane.media import media_of
from tasks.contract import JobKind, Usage
from tasks.errors import BadRequestError, WorkerError
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import MODEL, RESULT, WORKER, FakeBridge
from tests.ops.controlplane.running import Running

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("said", "code", "waits"),
    [
        ({"code": "x\r\nset-cookie: a=b"}, "worker_error", None),
        ({"code": "größe"}, "worker_error", None),
        ({"retry_after": 1e300}, "worker_error", None),
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


@pytest.mark.parametrize(
    "data", ["{", "7", "[]", '{"hosts": 5}', '{"hosts": [5]}', '{"a":' * 5000, '{"a": "\\ud800"}']
)
def test_an_installs_end_that_cannot_be_read_is_a_failure(data: str) -> None:
    about = {"action": Action.INSTALL, "model": "m", "id": "i", "bridge": ("k", "w"), "by": "key", "created": 0.0}
    frame = ResultFrame(job_id="i", seq=3, worker_id="w", data=data)
    assert finished(InstallRecord(**about), frame).state is State.FAILED


@pytest.mark.parametrize("media_type", ["audio/mpeg\r\nx: y", "größe/x", "audio", 7, "audio/mpeg; a=ß"])
def test_a_media_type_that_is_none_is_no_header(media_type: object) -> None:
    ask = Ask(JobKind.SPEECH, "s", stream=False, body={})
    with pytest.raises(WorkerError):
        media_of(ask, json.dumps({"audio": "AAAA", "content_type": media_type}))
    assert media_of(ask, '{"audio": "AAAA", "content_type": "audio/mpeg; rate=8"}').data == b"\0\0\0"


def test_a_checkpoint_of_a_line_that_no_log_has() -> None:
    about = {"log": "l", "head": "ab" * 32, "time": 1.0, "public_key": "A", "signature": "A"}
    assert decode_bridge(encode(AuditCheckpoint(line=5, **about)))
    with pytest.raises(BadRequestError):
        decode_bridge(encode(AuditCheckpoint.model_construct(type="audit_checkpoint", line=2**63, **about)))
