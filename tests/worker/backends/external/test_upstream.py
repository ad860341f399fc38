"""One request to a server: sent again only before its first byte; silence and broken bodies have an end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import PendraError
from tests.worker.backends.external.asking import http_client
from worker.backends.external.product import Found, ProductName
from worker.backends.external.upstream import Patience, asked, document, lines

QUICK = Patience(first_s=1.0, idle_s=1.0, pauses_s=(0.01, 0.01))
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class RawServer:
    """Answers the requests with `answers`, one each, the last again and again. None: hang up; "": say nothing."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.began = asyncio.Event()
        self.left = asyncio.Event()
        self.handlers: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handlers.add(asyncio.current_task())
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            self.began.set()
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is not None:
                writer.write(answer)
                await writer.drain()
                if not answer or answer.startswith(CHUNKED):
                    await reader.read()
                    self.left.set()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def at(server: RawServer) -> AsyncIterator[Found]:
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    async with listener:
        try:
            yield Found(ProductName.OLLAMA, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        finally:
            await asyncio.gather(*server.handlers)


def whole(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


async def fetch(found: Found, read: Callable = document):
    async with http_client() as http, asked(http, found, "GET", "/x", patience=QUICK, model="m") as response:
        return await read(response, found, QUICK)


async def refusal(server: RawServer, read: Callable = document) -> PendraError:
    async with at(server) as found:
        with pytest.raises(PendraError) as caught:
            await fetch(found, read)
    return caught.value


async def collected(response, found, patience) -> list[bytes]:
    return [line async for line in lines(response, found, patience)]


async def test_what_was_hung_up_on_before_an_answer_is_sent_again():
    server = RawServer(None, whole(b"", b"503 Busy"), whole(b'{"a": 1}'))
    async with at(server) as found:
        assert await fetch(found) == {"a": 1}
    assert server.asked == 3


@pytest.mark.parametrize(
    ("answer", "asked", "code", "words"),
    [
        (None, 3, "backend_unavailable", "does not answer: the connection was closed"),
        (whole(b"{}", b"503 Busy"), 3, "backend_unavailable", "answered HTTP 503"),
        (whole(b'{"error": "boom"}', b"500 Oh"), 1, "backend_error", "Ollama answered HTTP 500: boom"),
        (whole(b'{"error": "no"}', b"404 Not"), 1, "model_not_found", "does not have the model m"),
        (whole(b"", b"302 Found"), 1, "backend_error", "answered HTTP 302"),
        (b"", 1, "backend_unavailable", r"said nothing for 1 s"),
        (whole(b"{]"), 1, "backend_error", "sent something that is not JSON"),
        (whole(b"[]"), 1, "backend_error", "sent JSON that is not an object"),
        (CHUNKED + b'5\r\n{"a":\r\n', 1, "backend_error", r"fell silent for 1 s in the middle"),
        (OK + b"Content-Length: 99\r\n\r\n{", 1, "backend_error", "broke off in the middle of its reply"),
    ],
)
async def test_what_goes_wrong_and_how_often_it_is_tried(answer: bytes | None, asked: int, code: str, words: str):
    server = RawServer(answer)
    error = await refusal(server)
    assert error.code == code
    assert re.search(words, error.message)
    assert server.asked == asked


async def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(PendraError, match="connection refused") as caught:
        await fetch(Found(ProductName.VLLM, f"http://127.0.0.1:{port}"))
    assert caught.value.code == "backend_unavailable"


async def test_lines_end_at_line_feeds_only():
    text = '{"a":"\u2028\u0085"}\n\n{"b":1}\r\n{"c":2}'.encode()
    async with at(RawServer(whole(text))) as found:
        assert await fetch(found, collected) == ['{"a":"\u2028\u0085"}'.encode(), b'{"b":1}', b'{"c":2}']


@given(st.lists(st.text(alphabet="ab\r\n é", max_size=12).map(str.encode), max_size=12))
async def test_lines_are_the_same_however_packets_are_cut(packets: list[bytes]):
    class Body:
        async def aiter_bytes(self):
            for packet in packets:
                yield packet

    whole = [line.strip() for line in b"".join(packets).split(b"\n") if line.strip()]
    assert await collected(Body(), Found(ProductName.OLLAMA, "http://x"), QUICK) == whole


async def test_cancelling_before_an_answer_closes_the_connection():
    server = RawServer(b"")
    async with at(server) as found:
        task = asyncio.create_task(fetch(found))
        await asyncio.wait_for(server.began.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.left.wait(), 5)


async def test_cancelling_closes_the_connection():
    server = RawServer(CHUNKED + b"4\r\n{}\n\n\r\n")
    began = asyncio.Event()

    async def read(response, found, patience) -> None:
        async for _ in lines(response, found, patience):
            began.set()
            await asyncio.sleep(60)

    async with at(server) as found:
        task = asyncio.create_task(fetch(found, read))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.left.wait(), 5)
