"""Requests to external servers: pooled, retried before the first byte only, silence bounded, faults as our errors.

Cancelling the task that runs one of these closes the connection, which is how such servers learn to stop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tasks.contract import JsonObject
from worker.backends.external.faults import faulty, refused, unavailable
from worker.backends.external.logins import without_key
from worker.backends.external.product import Found

MOST_ERROR_BYTES = 64 * 1024
MOST_LINE_BYTES = 64 * 1024 * 1024  # an image of Ollama is one line
_AGAIN = frozenset({502, 503, 504})
_ERRORS = 300  # we follow no redirects: requests hold prompts


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may be silent, in seconds, and how often a request that got no answer is sent again.

    `first_s` until the status line (a cold model is loaded meanwhile; Ollama gives itself five minutes); `idle_s`
    between two pieces of the body. `pauses_s` are the waits before each further try.
    """

    connect_s: float = 3.0
    first_s: float = 330.0
    idle_s: float = 100.0
    pauses_s: tuple[float, ...] = (0.2, 0.8)


PATIENCE = Patience()


@asynccontextmanager
async def asked(
    http: httpx.AsyncClient,
    found: Found,
    method: str,
    path: str,
    *,
    patience: Patience = PATIENCE,
    model: str = "",
    **request: Any,
) -> AsyncIterator[httpx.Response]:
    """A good answer (2xx), its body still to be read; closed at the end. `request` as httpx takes it.

    What could not connect, or was hung up on before an answer, or was answered 502, 503 or 504, is sent again.
    Raises PendraError: `backend_unavailable`, `backend_error`, or what the status means (`faults.refused`).
    """
    response = await _answer(http, found, (method, path), patience, request)
    try:
        if response.status_code >= _ERRORS:
            raise refused(found, response.status_code, await _some(response, patience), model)
        yield response
    finally:
        await response.aclose()


async def _answer(
    http: httpx.AsyncClient, found: Found, where: tuple[str, str], patience: Patience, request: dict[str, Any]
) -> httpx.Response:
    for pause in (*patience.pauses_s, None):
        try:
            response = await _sent(http, found, where, patience, request)
        except httpx.TransportError as exc:
            if pause is None or isinstance(exc, httpx.UnsupportedProtocol):
                raise unavailable(found, f"does not answer: {reason(exc)}") from exc
        else:
            if pause is None or response.status_code not in _AGAIN:
                return response
            await response.aclose()
        await asyncio.sleep(pause)
    raise AssertionError("unreachable: the last try returns or raises")


async def _sent(
    http: httpx.AsyncClient, found: Found, where: tuple[str, str], patience: Patience, request: dict[str, Any]
) -> httpx.Response:
    """One try, until the status line."""
    method, path = where
    limits = httpx.Timeout(None, connect=patience.connect_s, pool=patience.first_s)
    built = http.build_request(method, found.url + path, timeout=limits, **request)
    try:
        async with asyncio.timeout(patience.first_s):
            return await http.send(built, stream=True, follow_redirects=False)
    except TimeoutError as exc:
        raise unavailable(found, f"said nothing for {patience.first_s:g} s") from exc


async def pieces(response: httpx.Response, found: Found, patience: Patience = PATIENCE) -> AsyncGenerator[bytes]:
    """The body as it comes. Raises PendraError `backend_error` when it breaks off or falls silent."""
    async with aclosing(response.aiter_bytes()) as body:  # type: ignore[type-var]  # it is a generator
        while True:
            try:
                async with asyncio.timeout(patience.idle_s):
                    piece = await anext(body, None)
            except TimeoutError as exc:
                raise faulty(found, f"fell silent for {patience.idle_s:g} s in the middle of its reply") from exc
            except httpx.TransportError as exc:
                raise faulty(found, f"broke off in the middle of its reply: {reason(exc)}") from exc
            if piece is None:
                return
            yield piece


async def lines(response: httpx.Response, found: Found, patience: Patience = PATIENCE) -> AsyncGenerator[bytes]:
    """The body's lines, without their ends and without empty ones. Only \\n ends a line: JSON may hold U+2028."""
    rest = bytearray()
    async with aclosing(pieces(response, found, patience)) as body:
        async for piece in body:
            *whole, tail = piece.split(b"\n")
            for part in whole:
                rest += part
                line = bytes(rest).strip()
                rest.clear()
                if line:
                    yield line
            rest += tail
            if len(rest) > MOST_LINE_BYTES:
                raise faulty(found, f"sent a line of more than {MOST_LINE_BYTES} bytes")
    if rest.strip():
        yield bytes(rest).strip()


async def document(response: httpx.Response, found: Found, patience: Patience = PATIENCE) -> JsonObject:
    """The body as one JSON object. Raises PendraError `backend_error`."""
    body = bytearray()
    async with aclosing(pieces(response, found, patience)) as parts:
        async for part in parts:
            body += part
            if len(body) > MOST_LINE_BYTES:
                raise faulty(found, f"sent a reply of more than {MOST_LINE_BYTES} bytes")
    return parsed(bytes(body), found)


def parsed(text: bytes | str, found: Found) -> JsonObject:
    """A JSON object. Raises PendraError `backend_error`, without quoting what it was instead."""
    try:
        value = json.loads(text)
    except ValueError:
        raise faulty(found, "sent something that is not JSON") from None
    if not isinstance(value, dict):
        raise faulty(found, "sent JSON that is not an object")
    return value


def reason(exc: BaseException) -> str:
    """A transport's fault in a few words."""
    if isinstance(exc, httpx.ConnectTimeout):
        return "the connection was not accepted in time"
    if isinstance(exc, httpx.ConnectError):
        return "TLS error" if "ssl" in str(exc).lower() else "connection refused or no such host"
    if isinstance(exc, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
        return "the connection was closed"
    return type(exc).__name__


async def _some(response: httpx.Response, patience: Patience) -> bytes:
    """The beginning of an error's body; what can be had of it."""
    body = bytearray()
    try:
        async with asyncio.timeout(min(patience.idle_s, 10.0)):
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MOST_ERROR_BYTES:
                    break
    except (TimeoutError, httpx.TransportError):
        pass
    return without_key(bytes(body), response)
