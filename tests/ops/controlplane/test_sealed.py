"""Private inference: what is sealed passes through unopened; only the API's own trailer is added in the clear."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from pendra._streaming import is_api_trailer_chunk

from bridge.protocol import ChunkEvent, ChunkFrame, Keys, WorkloadKey
from tasks.contract import Notice
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import KID, MODEL, WORKER, FakeBridge
from tests.ops.controlplane.running import Running

CHAT = "/api/v1/chat/completions"
KEY = WorkloadKey(kid=KID, public_key="cHVi")


def b64(size: int) -> str:
    return base64.b64encode(bytes(size)).decode()


ENVELOPE: dict[str, Any] = {
    "v": 2,
    "recipients": [{"kid": KEY.kid, "enc": b64(32), "sealed_dek": b64(48)}],
    "nonce": b64(12),
    "ciphertext": b64(20),
    "affinity_key": "tok",
}
SEALED = json.dumps({"pendra_encrypted": {"v": 2, "seq": 0, "ciphertext": "CC=="}})


async def ask(api: httpx.AsyncClient, bridge: FakeBridge, headers: dict[str, str]) -> list[dict[str, Any]]:
    body = {"model": MODEL, "stream": True, "pendra_encrypted": ENVELOPE}
    asking = asyncio.create_task(api.post(CHAT, json=body, headers=headers))
    job = await bridge.job()
    assert job.body == body
    assert (job.affinity, job.kids) == ("tok", (KID,))
    await bridge.accept(job)
    await bridge.send(ChunkFrame(events=(ChunkEvent(job_id=job.job_id, seq=1, data=SEALED),)))
    await bridge.finish(job, 2, notice=Notice(code="truncated_during_reasoning", message="m"))
    text = (await asking).text
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line.startswith("data: {")]


async def test_a_stream_passes_through_with_a_trailer_of_timings(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    sealed, trailer = await ask(api, bridge, {})
    assert sealed == json.loads(SEALED)
    assert is_api_trailer_chunk(trailer)
    assert set(trailer["pendra"]) == {"timing"}


async def test_placement_only_when_asked_for(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    _, trailer = await ask(api, bridge, {"X-Pendra-Placement": "1"})
    assert is_api_trailer_chunk(trailer)
    assert trailer["pendra"]["worker"]["id"] == WORKER
    assert trailer["pendra"]["request_id"].startswith("req_")


async def test_a_whole_reply_has_the_block_beside_the_envelope(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    asking = asyncio.create_task(api.post(CHAT, json={"model": MODEL, "pendra_encrypted": ENVELOPE}))
    job = await bridge.job()
    await bridge.accept(job)
    await bridge.finish(job, 1, data=SEALED, notice=Notice(code="c", message="m"))
    reply = (await asking).json()
    assert reply["pendra_encrypted"] == json.loads(SEALED)["pendra_encrypted"]
    assert set(reply["pendra"]) == {"worker", "request_id"}


async def test_no_worker_with_the_key(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    asking = asyncio.create_task(api.post(CHAT, json={"model": MODEL, "stream": True, "pendra_encrypted": ENVELOPE}))
    job = await bridge.job()
    await bridge.fail(job, 0, code="no_private_inference_worker", message="nobody holds the key", status=503)
    assert (await asking).headers["x-pendra-error-code"] == "no_private_inference_worker"


async def test_the_fleets_keys(plane: Running, api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    none = await api.get("/v1/private-inference/key")
    assert none.status_code == 404
    assert "no connected worker" in none.json()["detail"]
    key = WorkloadKey(kid="ab", public_key="cHVi")
    await bridge.send(Keys(keys=(key, key)))
    await asyncio.to_thread(until, plane.plane.hub.keys)
    found = await api.get("/v1/private-inference/key")
    assert found.json() == {"keys": [{"kid": "ab", "public_key": "cHVi"}]}


async def post(api: httpx.AsyncClient, envelope: Any, path: str = CHAT, **beside: Any) -> httpx.Response:
    return await api.post(path, json={"model": MODEL, "pendra_encrypted": envelope, **beside})


def changed(**changes: Any) -> dict[str, Any]:
    return {**ENVELOPE, **changes}


def recipient(**changes: Any) -> dict[str, Any]:
    return changed(recipients=[{**ENVELOPE["recipients"][0], **changes}])


@pytest.mark.parametrize(
    ("envelope", "where"),
    [
        ("x", ""),
        ([], ""),
        (changed(v=1), ".v"),
        (changed(v="2"), ".v"),
        (changed(recipients=[]), ".recipients"),
        (changed(recipients=ENVELOPE["recipients"] * 17), ".recipients"),
        (recipient(kid="AB" * 32), ".recipients.0.kid"),
        (recipient(kid=7), ".recipients.0.kid"),
        (recipient(enc="!"), ".recipients.0.enc"),
        (recipient(enc=b64(31)), ".recipients.0.enc"),
        (recipient(sealed_dek=b64(32)), ".recipients.0.sealed_dek"),
        (changed(nonce=b64(11)), ".nonce"),
        (changed(ciphertext=b64(15)), ".ciphertext"),
        (changed(ciphertext=None), ".ciphertext"),
        (changed(affinity_key="x" * 513), ".affinity_key"),
        (changed(binary_nonce=b64(12)), ""),
    ],
)
async def test_a_bad_envelope_is_refused_by_field(
    api: httpx.AsyncClient, bridge: FakeBridge, envelope: Any, where: str
) -> None:
    reply = await post(api, envelope)
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_envelope")
    assert reply.json()["error"]["param"] == "pendra_encrypted" + where
    assert reply.headers["x-pendra-error-code"] == "bad_envelope"


async def test_what_stands_beside_the_envelope_is_refused(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    reply = await post(api, ENVELOPE, messages=[{"role": "user", "content": "the-patient"}])
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_envelope")
    assert "'messages'" in reply.json()["detail"]
    assert "the-patient" not in reply.text


async def test_completions_are_never_sealed(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    reply = await post(api, ENVELOPE, "/api/v1/completions")
    assert (reply.status_code, reply.json()["code"]) == (400, "unsupported_endpoint")


async def test_no_bridge_has_a_worker_with_the_key(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    reply = await post(api, recipient(kid="cd" * 32))
    assert reply.status_code == 503
    assert reply.headers["x-pendra-error-code"] == "no_private_inference_worker"


async def test_a_sealed_request_is_not_sent_to_a_bridge_twice(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    """The lost bridge's worker may have used the reply's key."""
    asking = asyncio.create_task(post(api, ENVELOPE))
    await bridge.job()
    await bridge.drop()
    await bridge.connect()
    reply = await asking
    assert (reply.status_code, reply.json()["code"]) == (502, "worker_lost")
