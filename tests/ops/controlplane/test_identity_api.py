"""Keys and identities over HTTP, and what a revoked bridge sees."""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import closing

import httpx
import pytest

from bridge.identity import Identity, generate_seed
from bridge.protocol import CloseCode
from ops.controlplane.db import Database
from ops.controlplane.guard import FREE
from ops.controlplane.registry import MAX_PENDING, Registry
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import MODEL, FakeBridge
from tests.ops.controlplane.running import Running

KEYS = "/api/v1/admin/keys"
IDENTITIES = "/api/v1/admin/identities"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


async def make(api: httpx.AsyncClient, **wish: object) -> dict[str, object]:
    reply = await api.post(KEYS, json={"name": "app", **wish})
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


def bearer(key: dict[str, object]) -> dict[str, str]:
    return {"Authorization": f"Bearer {key['key']}"}


@pytest.fixture
async def identity(api: httpx.AsyncClient) -> dict[str, object]:
    """The connected bridge's."""
    return dict((await api.get(IDENTITIES)).json()["data"][0])


# ---------------------------------------------------------------- API keys


async def test_a_key_is_shown_once_and_revoked_at_once(api: httpx.AsyncClient) -> None:
    key = await make(api, labels=["team-a"])
    listed = (await api.get(KEYS)).json()["data"]
    assert [row["name"] for row in listed] == ["first key", "app"]
    assert str(key["key"]) not in str(listed)
    assert "hash" not in str(listed)
    assert listed[1]["labels"] == ["team-a"]
    assert (await api.get("/v1/models", headers=bearer(key))).status_code == 200
    assert (await api.post(f"{KEYS}/{key['id']}/revoke")).json()["state"] == "revoked"
    assert (await api.get("/v1/models", headers=bearer(key))).status_code == 401
    assert (await api.post(f"{KEYS}/{key['id']}/revoke")).json()["code"] == "key_not_found"


async def test_a_key_for_some_models(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    key = await make(api, models=["mini*"])
    rows = (await api.get("/v1/models", headers=bearer(key))).json()["data"]
    assert [row["id"] for row in rows] == ["minilm"]
    assert (await api.get(f"/v1/models/{MODEL}", headers=bearer(key))).status_code == 404
    reply = await api.post("/v1/chat/completions", json=CHAT, headers=bearer(key))
    assert (reply.status_code, reply.json()["code"]) == (403, "model_not_allowed")
    assert not bridge.frames, "nothing of it reached a bridge"


async def test_a_key_with_a_rate(api: httpx.AsyncClient) -> None:
    key = await make(api, rate=1)
    body = {"model": "nobody-has-it", "messages": CHAT["messages"]}
    first, second = [await api.post("/v1/chat/completions", json=body, headers=bearer(key)) for _ in range(2)]
    assert first.json()["code"] != "rate_limited"
    assert (second.status_code, second.json()["code"]) == (429, "rate_limited")
    assert 0 < int(second.headers["retry-after"]) <= 60


async def test_an_expired_key(api: httpx.AsyncClient, plane: Running) -> None:
    key = await make(api, expires=time.time() + 3600)
    assert (await api.get("/v1/models", headers=bearer(key))).status_code == 200
    with closing(Database(plane.home)) as db:
        db.do("UPDATE api_keys SET scope = ? WHERE id = ?", '{"expires": 1.0}', key["id"])
    assert (await api.get("/v1/models", headers=bearer(key))).status_code == 401
    assert (await api.get(KEYS)).json()["data"][1]["state"] == "expired"


async def test_only_an_admin_changes_keys_and_identities(api: httpx.AsyncClient) -> None:
    user = bearer(await make(api))
    calls = [("GET", KEYS), ("POST", KEYS), ("POST", f"{KEYS}/x/revoke"), ("GET", IDENTITIES), ("POST", IDENTITIES),
             ("POST", f"{IDENTITIES}/x/approve"), ("POST", f"{IDENTITIES}/x/revoke")]  # fmt: skip
    for method, path in calls:
        assert (await api.request(method, path, headers=user)).json()["code"] == "admin_key_needed"
        assert (await api.request(method, path, headers={"Authorization": ""})).status_code == 401


async def test_guessing_is_slowed_down(api: httpx.AsyncClient) -> None:
    """The right key goes on working from the same address."""
    guess = {"Authorization": "Bearer pdr_sk_guess"}
    assert (await api.get("/v1/models")).status_code == 200
    replies = [await api.get("/v1/models", headers=guess) for _ in range(FREE + 2)]
    assert {reply.status_code for reply in replies[:FREE]} == {401}
    assert replies[-1].json()["code"] == "too_many_failures"
    assert int(replies[-1].headers["retry-after"]) >= 1
    assert (await api.get("/v1/models")).status_code == 200


async def test_nothing_tells_a_revoked_key_from_one_that_never_was(api: httpx.AsyncClient) -> None:
    key = await make(api)
    await api.post(f"{KEYS}/{key['id']}/revoke")
    was, never = [
        await api.get("/v1/models", headers={"Authorization": f"Bearer {plain}"})
        for plain in (key["key"], "pdr_sk_never")
    ]
    assert was.json() == never.json()


# ---------------------------------------------------------------- identities


async def test_an_unknown_bridge_waits_for_approval(api: httpx.AsyncClient, plane: Running) -> None:
    stranger = Identity.from_base64(generate_seed())
    asking = plane.bridge(stranger)
    await asking.send(asking.hello(await asking.open()))
    assert (await asking.closed())[0] == CloseCode.PENDING
    row = next(row for row in (await api.get(IDENTITIES)).json()["data"] if row["public_key"] == stranger.public_key)
    assert (row["state"], row["worker_id"], row["connected"]) == ("pending", "wrk-0a1b2c3d", False)
    assert (await api.post(f"{IDENTITIES}/{row['id']}/approve")).json()["state"] == "registered"
    async with plane.bridge(stranger):
        rows = (await api.get(IDENTITIES)).json()["data"]
        assert [r["connected"] for r in rows if r["id"] == row["id"]] == [True]


async def test_who_does_not_prove_its_key_leaves_no_trace(api: httpx.AsyncClient, plane: Running) -> None:
    liar = plane.bridge(Identity.from_base64(generate_seed()))
    await liar.send(liar.hello(await liar.open(), signature="AAAA"))
    assert (await liar.closed())[0] == CloseCode.BAD_SIGNATURE
    assert len((await api.get(IDENTITIES)).json()["data"]) == 1


async def test_enrolling_by_key(api: httpx.AsyncClient, plane: Running) -> None:
    identity = Identity.from_base64(generate_seed())
    reply = await api.post(IDENTITIES, json={"public_key": identity.public_key, "name": "gpu-07"})
    assert (reply.status_code, reply.json()["state"]) == (201, "registered")
    async with plane.bridge(identity):
        pass
    bad = await api.post(IDENTITIES, json={"public_key": "pelican", "name": "x"})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "public_key")
    assert "pelican" not in bad.text


async def test_a_revoked_bridge_is_cut_off_and_its_jobs_end(
    api: httpx.AsyncClient, bridge: FakeBridge, identity: dict[str, object]
) -> None:
    asking = asyncio.create_task(api.post("/v1/chat/completions", json=CHAT))
    await bridge.accept(await bridge.job())
    assert (await api.post(f"{IDENTITIES}/{identity['id']}/revoke")).json()["state"] == "revoked"
    assert (await bridge.closed())[0] == CloseCode.REVOKED
    reply = await asking
    assert (reply.status_code, reply.json()["code"]) == (502, "worker_lost")
    assert "revoked" in reply.json()["detail"]
    assert (await api.get("/v1/models")).json()["data"] == []
    again = await api.post(f"{IDENTITIES}/{identity['id']}/approve")
    assert (again.status_code, again.json()["error"]["param"]) == (400, "id")


async def test_revoked_by_another_process(bridge: FakeBridge, plane: Running) -> None:
    """`pendra identities revoke` writes to the file; the running control plane looks at each tick."""
    with closing(Database(plane.home)) as db:
        Registry(db).revoke(plane.identity.public_key)
    assert (await bridge.closed())[0] == CloseCode.REVOKED
    await asyncio.to_thread(until, lambda: not plane.plane.hub.connected())
    back = plane.bridge()
    await back.send(back.hello(await back.open()))
    assert (await back.closed())[0] == CloseCode.REVOKED


def test_strangers_cannot_fill_the_list(plane: Running) -> None:
    with closing(Database(plane.home)) as db:
        registry = Registry(db)
        for n in range(MAX_PENDING + 20):
            registry.ask(base64.b64encode(n.to_bytes(32, "big")).decode(), "w", "n")
        assert len(registry.list()) == MAX_PENDING + 1  # the test's own bridge is registered
