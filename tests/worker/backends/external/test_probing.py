"""What is at an address, in words for an operator."""

from __future__ import annotations

import asyncio
import ssl

import httpx
import pytest

from worker.backends.external.probing import look
from worker.backends.external.product import NotFoundHere


def client(answer: httpx.Response | Exception) -> httpx.AsyncClient:
    def handle(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.AsyncClient(transport=httpx.MockTransport(handle))


async def test_an_object():
    async with client(httpx.Response(200, json={"version": "1"})) as http:
        assert await look(http, "http://x", "/api/version") == {"version": "1"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.ConnectError("refused"), "connection refused"),
        (httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version"), "TLS error"),
        (httpx.RemoteProtocolError("bad"), "the connection was closed"),
        (httpx.UnsupportedProtocol("ftp"), "not an http:// or https:// address"),
        (httpx.Response(200, html="<html></html>"), "an HTML page"),
        (httpx.Response(200, html="<html></html>", headers={"server": "nginx"}), r"HTML page \(server: nginx\)"),
        (httpx.Response(200, text="Ollama is running"), "text/plain that is not JSON"),
        (httpx.Response(200, json=[1]), "JSON of another shape"),
        (
            httpx.Response(404, json={"detail": "Not Found"}, headers={"server": "uvicorn"}),
            "HTTP 404.*uvicorn.*Not Found",
        ),
        (httpx.Response(302, headers={"location": "http://elsewhere"}), "HTTP 302"),
    ],
)
async def test_what_was_found_instead(answer: httpx.Response | Exception, words: str):
    async with client(answer) as http:
        with pytest.raises(NotFoundHere, match=words):
            await look(http, "http://x", "/api/version")


async def test_a_server_that_says_nothing():
    left = asyncio.Event()

    async def stuck(reader, writer) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    server = await asyncio.start_server(stuck, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, httpx.AsyncClient(verify=ssl.create_default_context()) as http:
        with pytest.raises(NotFoundHere, match=r"no answer to GET /x within 0\.05 s"):
            await look(http, f"http://127.0.0.1:{port}", "/x", within_s=0.05)
        await asyncio.wait_for(left.wait(), 5)
