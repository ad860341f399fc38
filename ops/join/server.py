"""The join service: one question and one answer a connection, a line of JSON each, over TLS.

It lives in the foreground of `pendra fleet token` and ends with the last host, or when the token expires. It holds
the keys in memory only for as long.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import Callable
from functools import partial

from pydantic import ValidationError

from ops.join import sealing
from ops.join.desk import ERRORS, Desk, Verdict
from ops.join.errors import JoinError
from ops.join.grant import Answer, Ask, Grant
from ops.join.token import Token

LINE_BYTES = 64 * 1024
_TALK_S = 10.0  # from a connection's first byte to its last
_MOST_AT_ONCE = 16
_LINGER_S = 3.0  # for a host whose answer was lost on the way

Told = Callable[[str, str, Verdict], None]


class Joining:
    """`told` hears (node, address, verdict) of every answer. Event loop only."""

    def __init__(self, token: Token, grant: Grant, hosts: int, told: Told, clock: Callable[[], float]) -> None:
        self._token, self._grant = token, grant
        self._told, self._clock = told, clock
        self._open = 0
        self.desk = Desk(token, hosts)
        self.full = asyncio.Event()
        """Every host that the token is for is in."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. Never raises."""
        if self._open >= _MOST_AT_ONCE:
            writer.transport.abort()
            return
        self._open += 1
        try:
            with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
                async with asyncio.timeout(_TALK_S):
                    await self._talk(reader, writer)
        finally:
            self._open -= 1
            writer.transport.abort()  # all that was to be said is said

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str(writer.get_extra_info("peername", ("?",))[0])
        if not self.desk.admits(address, self._clock()):
            answer, ask = _no(Verdict.RATE_LIMITED), None
        else:
            line = await reader.readline()
            if not line:  # it looked at the certificate and left
                return
            ask = _ask_of(line)
            answer = self._answer(ask, address)
        writer.write(answer.model_dump_json().encode() + b"\n")
        await writer.drain()
        await reader.read(1)  # the asker closes when it has everything
        if self.desk.done:
            self.full.set()

    def _answer(self, ask: Ask | None, address: str) -> Answer:
        verdict = self.desk.decide(ask, address, self._clock())
        self._told(ask.node if ask else "?", address, verdict)
        if ask is None or verdict is not Verdict.GRANTED:
            return _no(verdict)
        sealed = sealing.seal(self._token.secret, self._grant, ask.node, ask.nonce)
        return Answer(sealed=base64.b64encode(sealed).decode())


async def listen(
    token: Callable[[int], Token], grant: Grant, *, bind: tuple[str, int], tls: ssl.SSLContext, hosts: int,
    ready: Callable[[Token], None], told: Told, clock: Callable[[], float] = time.time,
) -> tuple[str, ...]:  # fmt: skip
    """Serve until all hosts are in or the token is void; returns the hosts that joined.

    `token` makes it once the port is known, `ready` is told when the service listens. Cancel-safe. Raises JoinError
    (`join_unreachable`) when it cannot listen there.
    """
    joining: list[Joining] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await joining[0].serve(reader, writer)

    try:
        server = await asyncio.start_server(
            serve, *bind, ssl=tls, limit=LINE_BYTES, ssl_handshake_timeout=_TALK_S, start_serving=False
        )
    except OSError as exc:
        words = f"cannot listen on {bind[0]} port {bind[1]}: {exc.strerror or exc}; choose another with --port"
        raise JoinError(words, code="join_unreachable") from None
    async with server:
        made = token(server.sockets[0].getsockname()[1])
        joining.append(Joining(made, grant, hosts, told, clock))
        await server.start_serving()
        ready(made)
        await _until_over(joining[0], partial(made.left, clock()))
    return tuple(joining[0].desk.joined)


async def _until_over(joining: Joining, left: Callable[[], float]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, left())):
            await joining.full.wait()
        await asyncio.sleep(_LINGER_S if joining.desk.done else 0)


def _ask_of(line: bytes) -> Ask | None:
    try:
        return Ask.model_validate_json(line)
    except ValidationError:
        return None


def _no(verdict: Verdict) -> Answer:
    error = ERRORS[verdict]
    return Answer(code=error.code, message=error.message)
