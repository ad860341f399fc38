"""Bytes on real sockets: at the API's port, and in WebSocket messages from an approved bridge."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from bridge.protocol import CloseCode
from tests.fuzz.cases import Fuzzer
from tests.fuzz.mutation import as_bytes, damaged, mutated
from tests.fuzz.test_bridge_frames import samples
from tests.ops.controlplane.running import Running

REQUESTS = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    (
        b"GET /ws/gpu HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\x85\0\0\0\0hello"
    ),
)


@pytest.fixture
def plane(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Running]:
    caplog.set_level(logging.CRITICAL + 1)
    running = Running(tmp_path / "home")
    running.start()
    yield running
    running.stop()


async def answer_to(port: int, raw: bytes) -> bytes:
    """What comes back until the server has no more to say."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError):
        writer.write(raw)
        writer.write_eof()
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
        return said
    return b""


async def test_bytes_at_the_apis_port(fuzzer: Fuzzer, plane: Running) -> None:
    seen: Counter[bytes] = Counter()

    async def case(rng: Random) -> None:
        raw = damaged(rng.choice(REQUESTS), rng) if rng.random() < 0.9 else rng.randbytes(rng.randrange(300))
        said = await answer_to(plane.port, raw)
        seen[said[9:12]] += 1
        assert b" 500 " not in said[:20], raw

    await fuzzer.run_async(case, sample=60, all_of_them=2_000)
    assert seen[b"400"] > 3, seen
    assert (await asyncio.to_thread(httpx.get, f"{plane.url}/healthz")).status_code in {200, 503}


async def test_messages_of_a_bridge(fuzzer: Fuzzer, plane: Running) -> None:
    """Several a connection; a bad one closes it with words, and the next connection is served as before."""
    seen: Counter[int] = Counter()

    async def case(rng: Random) -> None:
        bridge = plane.bridge()
        try:
            challenge = await bridge.open()
            if rng.random() < 0.8:
                await bridge.send(bridge.hello(challenge))
            assert bridge._socket is not None
            for _ in range(5):
                raw = as_bytes(mutated(rng.choice(samples("j", 0)), rng), rng)
                await bridge._socket.send(raw if rng.random() < 0.5 else raw.decode(errors="replace"))
        except ConnectionClosed:
            pass
        await bridge.close()
        seen[bridge._socket.close_code or 0] += 1

    await fuzzer.run_async(case, sample=60, all_of_them=2_000)
    assert seen[CloseCode.BAD_FRAME] > 3, seen
    assert set(seen) <= {*CloseCode, 1000}, seen  # never 1011: an error of the server's own
    async with plane.bridge() as bridge:
        assert bridge.welcome.session
