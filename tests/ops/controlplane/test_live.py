"""The console's stream: who may watch, what comes first, what comes then, and when it ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from bridge.protocol import Capacity
from ops.controlplane import live
from ops.controlplane.db import Database
from ops.controlplane.registry import Registry
from tests.ops.controlplane.fake_bridge import MODEL, WORKER, FakeBridge
from tests.ops.controlplane.running import Running

PATH = "/api/v1/live"
STRANGER = base64.b64encode(bytes(32)).decode()


class Events:
    """A stream of named events, read as they come."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self, name: str) -> Any:
        """The next one of this name."""
        async with asyncio.timeout(10):
            came = ""
            async for line in self._lines:
                if line.startswith("event: "):
                    came = line[7:]
                elif line.startswith("data: ") and came == name:
                    return json.loads(line[6:])
        raise AssertionError("the stream has ended")

    async def ended(self) -> None:
        async with asyncio.timeout(10):
            async for _ in self._lines:
                pass


@contextlib.asynccontextmanager
async def watching(api: httpx.AsyncClient, **options: Any) -> AsyncIterator[Events]:
    async with api.stream("GET", PATH, **options) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Events(response)


@pytest.mark.parametrize(
    ("kind", "status", "code"), [("user", 403, "admin_key_needed"), ("none", 401, "unauthorized")]
)
def test_it_needs_an_admins_key(plane: Running, kind: str, status: int, code: str) -> None:
    headers = {"x-api-key": plane.plane.keys.create("user")} if kind == "user" else {}
    reply = httpx.get(plane.url + PATH, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (status, code)


async def test_the_fleet_then_what_changes_then_a_sample_a_second(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    async with watching(api) as events:
        history = await events.next("history")
        assert all(
            set(point) >= {"at", "waiting", "slots_busy", "slots_total", "tokens_per_second"} for point in history
        )
        fleet = await events.next("fleet")
        (worker,) = fleet["workers"]
        assert (worker["id"], worker["slots_total"], worker["draining"]) == (WORKER, 4, False)
        assert fleet["bridges"] == [{"id": bridge.worker_id, "connected": True, "version": "9.9.9"}]
        assert [model["id"] for model in fleet["models"]] == ["minilm", MODEL]
        await bridge.send(Capacity(slots_total=4, slots_busy=2, waiting=7))
        await bridge.advertise(draining=True, slots_busy=2, tokens_per_second=41.5)
        assert (await events.next("fleet"))["workers"][0]["draining"] is True
        point = await events.next("sample")
        assert (point["waiting"], point["slots_busy"], point["tokens_per_second"]) == (7, 2, 41.5)


async def test_a_bridge_that_waits_for_approval_is_told_of(api: httpx.AsyncClient, plane: Running) -> None:
    with closing(Database(plane.home)) as db:
        registry = Registry(db)
        async with watching(api) as events:
            assert (await events.next("fleet"))["pending"] == []
            registry.ask(STRANGER, "wrk-new", "new")
            (identity,) = (await events.next("fleet"))["pending"]
            assert identity == registry.named(STRANGER).id
            await api.post(f"/api/v1/admin/identities/{identity}/approve")
            assert (await events.next("fleet"))["pending"] == []


async def test_installs_come_first_and_as_they_change(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    (begun,) = (await api.post("/api/v1/installs", json={"model": MODEL})).json()["data"]
    async with watching(api) as events:
        assert (await events.next("install"))["id"] == begun["id"]
        await api.post(f"/api/v1/installs/{begun['id']}/cancel")
        assert (await events.next("install"))["cancelling"] is True


async def test_a_revoked_key_sees_nothing_more(
    plane: Running, api: httpx.AsyncClient, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CHECK_S", 0.05)
    monkeypatch.setattr(live, "LOOK_S", 0.02)
    plain = plane.plane.keys.create("second", admin=True)
    key = plane.plane.keys.find(plain)
    assert key is not None
    async with watching(api, headers={"Authorization": f"Bearer {plain}"}) as events:
        await events.next("fleet")
        assert plane.plane.keys.revoke(key.id)
        await events.next("denied")
        await events.ended()


async def test_it_ends_when_the_api_stops(plane: Running, api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    async with watching(api) as events:
        await events.next("fleet")
        plane.server.should_exit = True
        await events.ended()
