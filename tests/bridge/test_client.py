"""The link against a server on loopback: what it does when the other side misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from bridge import client
from bridge.backoff import Backoff, Fatal
from bridge.client import Link
from bridge.identity import Identity, generate_nonce, generate_seed, sign_hello
from bridge.lease import LeaseLostError
from bridge.protocol import ApiFrame, Cancel, Challenge, CloseCode, Hello, JobMark, Welcome, encode

ME = Identity.from_base64(generate_seed())


def hello(challenge: Challenge) -> Hello:
    return sign_hello(challenge, ME, worker_id="w", name="", version="", now=0.0)


class Told:
    """Remembers what the link told."""

    def __init__(self) -> None:
        self.ups = 0
        self.downs = 0
        self.chars = 0
        self.frames: list[ApiFrame] = []
        self.changed = asyncio.Event()

    def welcomed(self, welcome: Welcome) -> None:
        self.ups += 1
        self.changed.set()

    def frame(self, frame: ApiFrame) -> None:
        self.frames.append(frame)
        self.changed.set()

    def written(self, chars: int) -> None:
        self.chars += chars
        self.changed.set()

    def unlinked(self) -> None:
        self.downs += 1
        self.changed.set()

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not look():
                self.changed.clear()
                await self.changed.wait()


async def greet(socket: ServerConnection, *resume: JobMark) -> None:
    await socket.send(encode(Challenge(nonce=generate_nonce(), time=0.0)))
    await socket.recv()
    await socket.send(encode(Welcome(session="s", resume=resume)))


@asynccontextmanager
async def linked(handler: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[tuple[Link, Told]]:
    told = Told()
    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        link = Link(f"ws://127.0.0.1:{port}/", hello, told, backoff=Backoff(base=0.001))
        running = asyncio.ensure_future(link.run())
        try:
            yield link, told
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_frames_go_both_ways() -> None:
    got: asyncio.Queue[str | bytes] = asyncio.Queue()

    async def handler(socket: ServerConnection) -> None:
        assert socket.request is not None
        assert socket.request.path == "/ws/gpu"
        assert "Sec-WebSocket-Extensions" not in (socket.response.headers if socket.response else {})
        await greet(socket)
        await socket.send(encode(Cancel(job_id="j")))
        got.put_nowait(await socket.recv())

    async with linked(handler) as (link, told):
        await told.until(lambda: bool(told.frames))
        link.send("x")
        assert await asyncio.wait_for(got.get(), 10) == "x"
        assert told.frames == [Cancel(job_id="j")]


@pytest.mark.parametrize("opening", ["garbage", encode(Cancel(job_id="j")), b"\x00"])
async def test_another_protocol_at_the_door_is_tried_again(opening: str | bytes) -> None:
    tries: list[int] = []

    async def handler(socket: ServerConnection) -> None:
        tries.append(1)
        if len(tries) < 3:
            await socket.send(opening)
            await socket.wait_closed()
        else:
            await greet(socket)
            await socket.wait_closed()

    async with linked(handler) as (_, told):
        await told.until(lambda: told.ups == 1)
    assert len(tries) == 3


async def test_a_malformed_frame_is_skipped_and_the_link_stays() -> None:
    async def handler(socket: ServerConnection) -> None:
        await greet(socket)
        await socket.send("{}")
        await socket.send(encode(Cancel(job_id="after")))
        await socket.wait_closed()

    async with linked(handler) as (_, told):
        await told.until(lambda: bool(told.frames))
        assert told.frames == [Cancel(job_id="after")]
        assert told.downs == 0


async def test_a_closed_link_is_dialled_again() -> None:
    async def handler(socket: ServerConnection) -> None:
        await greet(socket)
        await socket.close(CloseCode.SHUTTING_DOWN, "restart")

    async with linked(handler) as (link, told):
        await told.until(lambda: told.ups >= 3)
        assert told.downs >= 2
        link.send("dropped while down is fine")


async def test_a_fatal_close_ends_the_run_with_the_apis_words() -> None:
    async def handler(socket: ServerConnection) -> None:
        await socket.send(encode(Challenge(nonce=generate_nonce(), time=0.0)))
        await socket.recv()
        await socket.close(CloseCode.CLOCK_SKEW, "off by 400 s")

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        ended = await asyncio.wait_for(Link(f"ws://127.0.0.1:{port}", hello, Told()).run(), 10)
    assert isinstance(ended, Fatal)
    assert "off by 400 s" in ended.words


async def test_a_url_that_is_none_is_fatal() -> None:
    ended = await asyncio.wait_for(Link("http://127.0.0.1", hello, Told()).run(), 10)
    assert "APP_SERVER_WS_URL" in ended.words


async def test_an_api_that_does_not_read_loses_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "OUTBOX_CHARS", 1000)

    async def handler(socket: ServerConnection) -> None:
        await greet(socket)
        await socket.wait_closed()

    async with linked(handler) as (link, told):
        await told.until(lambda: told.ups == 1)
        link.send("x" * 2000)
        await told.until(lambda: told.downs == 1)
        await told.until(lambda: told.ups == 2)
        await link.flushed()


async def test_who_has_a_successor_says_nothing() -> None:
    said: list[str | bytes] = []

    async def handler(socket: ServerConnection) -> None:
        await socket.send(encode(Challenge(nonce=generate_nonce(), time=0.0)))
        said.extend([message async for message in socket])

    async def confirm() -> None:
        raise LeaseLostError("another process took over")

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(LeaseLostError):
            await asyncio.wait_for(Link(f"ws://127.0.0.1:{port}", hello, Told(), confirm=confirm).run(), 10)
    assert not said
