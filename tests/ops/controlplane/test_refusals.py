"""Requests that are refused: a status, a stable code, words that say what to do; never the content."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pendra
import pytest

from ops.controlplane import ensure_api_key
from ops.controlplane.config import Limits
from ops.controlplane.db import Database
from ops.controlplane.keystore import KeyStore
from tasks.blobs import INLINE_BYTES
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import MODEL, WORKER, FakeBridge
from tests.ops.controlplane.running import Running, serving

CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests here: a refusal leaves nothing behind."""
    running = Running(tmp_path_factory.mktemp("plane"))
    running.start()
    yield running
    running.stop()


def refused(reply: httpx.Response) -> tuple[int, str]:
    body = reply.json()
    assert body["detail"] == body["error"]["message"]
    assert body["code"] == body["error"]["code"] == reply.headers["x-pendra-error-code"]
    assert reply.headers["x-request-id"].startswith("req_")
    return reply.status_code, body["code"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer pdr_sk_wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic abc"},
        {"Authorization": "", "x-api-key": "pdr_sk_wrong"},
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/private-inference/key"])
async def test_a_bad_key(api: httpx.AsyncClient, headers: dict[str, str], path: str) -> None:
    reply = await (api.post(path, json=BODY, headers=headers) if path == CHAT else api.get(path, headers=headers))
    assert refused(reply) == (401, "unauthorized")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert "wrong" not in reply.text


def test_x_api_key_and_revoking(tmp_path: Path) -> None:
    own = Running(tmp_path)
    own.start()
    headers = {"x-api-key": own.key}
    with httpx.Client(base_url=own.url, headers=headers, trust_env=False) as client:
        assert client.get("/v1/models").status_code == 200
        db = Database(own.home)
        store = KeyStore(db)
        assert store.revoke(store.list()[0].id)
        db.close()
        assert refused(client.get("/v1/models")) == (401, "unauthorized")
        assert ensure_api_key(own.home) == own.key
        assert refused(client.get("/v1/models")) == (401, "unauthorized"), "a start brought a revoked key back"
    own.stop()


@pytest.mark.parametrize(
    "garbage",
    [b"", b"  ", b"{", b'{"model": ', b"\xff\xfe", b'{"model": "pelican" oops}', b"[" * 300, b'{"a": NaN}', b"{}{}"],
)
async def test_garbage_json(api: httpx.AsyncClient, garbage: bytes) -> None:
    reply = await api.post(CHAT, content=garbage)
    assert refused(reply) == (400, "invalid_json")
    assert "pelican" not in reply.text
    if garbage.strip():
        assert "line 1 column" in reply.json()["detail"]


@pytest.mark.parametrize("other", [b"[]", b"null", b'"text"', b"3", b"true"])
async def test_json_that_is_no_object(api: httpx.AsyncClient, other: bytes) -> None:
    reply = await api.post(CHAT, content=other)
    assert refused(reply) == (400, "bad_request")
    assert "must be a JSON object" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": None}, "model"),
        ({"model": " "}, "model"),
        ({"model": 3}, "model"),
        ({"model": "m" * 300}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"stream": "yes"}, "stream"),
    ],
)
async def test_bad_fields_are_named(api: httpx.AsyncClient, changes: dict[str, object], param: str) -> None:
    reply = await api.post(CHAT, json={**BODY, **changes})
    assert refused(reply) == (400, "bad_request")
    assert reply.json()["error"]["param"] == param
    assert f"'{param}'" in reply.json()["detail"]


async def test_nobody_connected(api: httpx.AsyncClient) -> None:
    reply = await api.post(CHAT, json=BODY)
    assert refused(reply) == (503, "no_worker")
    assert reply.headers["retry-after"] == "2"


async def test_unknown_models(
    openai_client: openai.AsyncOpenAI, pendra_client: pendra.AsyncPendra, bridge: FakeBridge
) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        await openai_client.chat.completions.create(model="no-such-model", messages=BODY["messages"])
    with pytest.raises(pendra.APIStatusError, match="no-such-model"):
        await pendra_client.chat.completions.create(model="no-such-model", messages=BODY["messages"])


async def test_a_catalogue_model_that_nobody_has(plane: Running, api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    await bridge.advertise(model_infos=(), models=())
    await asyncio.to_thread(until, lambda: not httpx.get(f"{plane.url}/healthz").json()["models"])
    reply = await api.post(CHAT, json=BODY)
    assert refused(reply) == (404, "model_not_installed")
    assert "pendra models install" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("pin", "model", "code", "named"),
    [
        ("wrk-00000000-cpu9", MODEL, "worker_not_found", "wrk-00000000-cpu9"),
        (WORKER, "other:1b", "model_not_installed", "other:1b"),
    ],
)
async def test_pins(api: httpx.AsyncClient, bridge: FakeBridge, pin: str, model: str, code: str, named: str) -> None:
    reply = await api.post(CHAT, json={**BODY, "model": model}, headers={"X-Pendra-Worker-Id": pin})
    assert refused(reply) == (404, code)
    assert named in reply.json()["detail"]


async def test_a_model_for_something_else(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    for path, body in [
        (CHAT, {**BODY, "model": "minilm"}),
        ("/v1/embeddings", {"model": MODEL, "input": "x"}),
        ("/v1/rerank", {"model": MODEL, "query": "x", "documents": ["y"]}),
        ("/v1/images/generations", {"model": MODEL, "prompt": "x"}),
    ]:
        assert refused(await api.post(path, json=body)) == (400, "wrong_capability")


@pytest.mark.parametrize("path", ["/audio/translations", "/moderations"])
async def test_what_nobody_offers_says_what_there_is(api: httpx.AsyncClient, bridge: FakeBridge, path: str) -> None:
    for prefix in ("/v1", "/api/v1"):
        reply = await api.post(prefix + path, json={})
        assert refused(reply) == (400, "unsupported_endpoint")
        assert f"chat: {MODEL}" in reply.json()["detail"]


async def test_paths_and_methods(api: httpx.AsyncClient) -> None:
    assert refused(await api.get("/v2/models")) == (404, "not_found")
    assert refused(await api.get(CHAT)) == (405, "method_not_allowed")


async def test_a_body_that_is_too_large(tmp_path: Path) -> None:
    async with serving(tmp_path, Limits(body_bytes=1_048_576)) as (api, _, _):
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 2_000_000}]}
        reply = await api.post(CHAT, json=body)
        assert refused(reply) == (413, "request_too_large")
        assert "1 MiB" in reply.json()["detail"]

        async def pieces():
            for _ in range(20):
                yield b"x" * 100_000

        assert refused(await api.post(CHAT, content=pieces())) == (413, "request_too_large")


async def test_the_largest_body_in_one_piece_fits_a_frame(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": ""}]}
    room = INLINE_BYTES - len(json.dumps(body))
    body["messages"] = [{"role": "user", "content": "\x7f" * room}]
    serving = asyncio.create_task(bridge.serve_whole("ok"))
    reply = await api.post(CHAT, content=json.dumps(body, ensure_ascii=False))
    assert reply.status_code == 200
    assert (await serving).body == body
