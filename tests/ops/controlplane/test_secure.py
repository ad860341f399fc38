"""What every reply carries, and who is not waited for."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from ops.controlplane.config import Limits
from ops.controlplane.http_protocol import TimedProtocol
from ops.controlplane.secure import headers_for
from tests.ops.controlplane.fake_bridge import MODEL, FakeBridge
from tests.ops.controlplane.running import Running, serving

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}


def check(reply: httpx.Response) -> None:
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-frame-options"] == "DENY"
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert reply.headers["cache-control"].startswith("no-")
    assert "server" not in reply.headers


@pytest.mark.parametrize(
    "path", ["/healthz", "/v1/models", "/nowhere", "/v1/catalogue", "/v1/admin/keys", "/console"]
)
async def test_on_every_route(api: httpx.AsyncClient, path: str) -> None:
    check(await api.get(path))
    check(await api.get(path, headers={"Authorization": ""}))
    check(await api.put(path))


async def test_on_a_stream_and_its_own_headers_stay(api: httpx.AsyncClient, bridge: FakeBridge) -> None:
    asking = asyncio.create_task(api.post("/v1/chat/completions", json=CHAT))
    await bridge.serve_stream(["a"])
    reply = await asking
    check(reply)
    assert reply.headers.get_list("cache-control") == ["no-cache, no-transform"]


async def test_on_a_crash(api: httpx.AsyncClient, plane: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("pelican")

    monkeypatch.setattr(plane.plane.hub, "connected", broken)
    reply = await api.get("/v1/models")
    assert reply.status_code == 500
    assert "pelican" not in reply.text
    check(reply)


def test_the_consoles_own_files_may_run_and_nothing_inline() -> None:
    policy = headers_for({"type": "http", "path": "/console/app.js", "scheme": "https"})
    assert "script-src 'self'" in policy["content-security-policy"]
    assert "unsafe" not in policy["content-security-policy"]
    assert policy["strict-transport-security"]
    assert "script-src" not in headers_for({"type": "http", "path": "/consoles"})["content-security-policy"]


async def drip(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(10):
        while True:
            writer.write(b"X: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)


async def cut_off(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(10):
            return not await reader.read(1)
    except ConnectionError:
        return True


async def test_headers_that_never_end(plane: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimedProtocol, "head_s", 0.2)
    _, writer = await asyncio.open_connection("127.0.0.1", plane.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    with pytest.raises(ConnectionError):
        await drip(writer)  # a byte now and then does not help
    silent, other = await asyncio.open_connection("127.0.0.1", plane.port)
    assert await cut_off(silent)
    writer.close()
    other.close()


async def test_a_second_request_on_a_connection_is_timed_too(plane: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimedProtocol, "head_s", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
    whole = b"GET /v1/catalogue HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(2):
        writer.write(whole)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(length)
        await asyncio.sleep(0.3)  # longer than a head may take: a quiet connection is none that is late
    writer.write(whole[:20])
    assert await cut_off(reader)
    writer.close()


async def test_a_body_that_never_ends(tmp_path, bridge: FakeBridge) -> None:
    async with serving(tmp_path / "other", Limits(body_idle_s=0.2)) as (_, _, running):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nx-api-key: {running.key}\r\ncontent-length: 99\r\n\r\n"
        writer.write(head.encode() + b'{"model"')
        async with asyncio.timeout(10):
            assert b" 408 " in await reader.readline()
        writer.close()


async def test_a_route_has_its_own_limit(api: httpx.AsyncClient) -> None:
    large = b'{"name": "' + b"x" * 70_000 + b'"}'
    reply = await api.post("/v1/admin/keys", content=large)
    assert (reply.status_code, reply.json()["code"]) == (413, "request_too_large")
    speech = await api.post("/v1/audio/speech", content=b" " * (1024 * 1024 + 1))
    assert speech.json()["code"] == "request_too_large"


async def test_only_so_many_may_be_nobody(tmp_path) -> None:
    running = Running(tmp_path, limits=Limits(greetings=2))
    running.start()
    try:
        held = [running.bridge(), running.bridge()]
        for one in held:
            await one.open()
        with pytest.raises(Exception, match="403"):
            await running.bridge().open()
        for one in held:
            await one.close()
    finally:
        await asyncio.to_thread(running.stop)
