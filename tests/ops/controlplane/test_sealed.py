"""Private inference: what is sealed passes through unopened; only the API's own trailer is added in the clear."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from pendra._streaming import is_api_trailer_chunk

from bridge.protocol import ChunkEvent, ChunkFrame, Keys, WorkloadKey
from tasks.contract import Notice
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import MODEL, WORKER, FakeBridge
from tests.ops.controlplane.running import Running

CHAT = "/api/v1/chat/completions"
ENVELOPE = {"v": 2, "recipients": [{"kid": "k"}], "nonce": "AA==", "ciphertext": "BB==", "affinity_key": "tok"}
SEALED = json.dumps({"pendra_encrypted": {"v": 2, "seq": 0, "ciphertext": "CC=="}})


async def ask(api: httpx.AsyncClient, bridge: FakeBridge, headers: dict[str, str]) -> list[dict[str, Any]]:
    body = {"model": MODEL, "stream": True, "pendra_encrypted": ENVELOPE}
    asking = asyncio.create_task(api.post(CHAT, json=body, headers=headers))
    job = await bridge.job()
    assert job.body == body
    assert job.affinity == "tok"
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
