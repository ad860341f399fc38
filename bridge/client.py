"""The WebSocket link to the API. The only module that imports websockets.

Dials, proves who we are, reads frames, writes frames, and dials again until something fatal is met. TLS comes with
`wss://`; `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are honoured (websockets does that). Compression is off: token
frames are small, and deflate would cost more than everything else here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidProxy, InvalidURI, WebSocketException

from bridge.backoff import Backoff, Fatal, verdict
from bridge.lease import LeaseLostError
from bridge.protocol import MAX_FRAME_BYTES, PATH, ApiFrame, Challenge, Hello, Welcome, decode_api, encode
from tasks.cancelling import ended
from tasks.errors import BadRequestError, ConfigError, PendraError
from tasks.logs import event

log = logging.getLogger("pendra.bridge.link")

OPEN_TIMEOUT_S = 10.0
HANDSHAKE_TIMEOUT_S = 10.0
PING_S = 10.0
PONG_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 2.0
OUTBOX_CHARS = 8 * 1024 * 1024  # of frames of no job; those of jobs come a window at a time (bridge.flow)
REPORT_CHARS = 64 * 1024
ROOM_CHARS = 256 * 1024
NO_CLOSE_FRAME = 1006  # RFC 6455 §7.1.5


class Events(Protocol):
    """What the link tells; called on the event loop."""

    def welcomed(self, welcome: Welcome) -> None: ...
    def frame(self, frame: ApiFrame) -> None: ...
    def written(self, chars: int) -> None: ...
    def unlinked(self) -> None: ...


async def _certain() -> None:
    """Nobody else speaks for us."""


class Link:
    """One link at a time. `send` is for the time between `welcomed` and `unlinked`; later frames are dropped.

    `confirm` is awaited before the API hears who we are. It raises LeaseLostError when somebody else is that by now:
    a process that slept must not push its successor off.
    """

    def __init__(
        self,
        base_url: str,
        hello: Callable[[Challenge], Hello],
        events: Events,
        *,
        confirm: Callable[[], Awaitable[None]] = _certain,
        backoff: Backoff | None = None,
    ) -> None:
        self._url = base_url.rstrip("/") + PATH
        self._hello = hello
        self._confirm = confirm
        self._events = events
        self._backoff = backoff or Backoff()
        self._socket: ClientConnection | None = None
        self._linked_before = False
        self._outbox: deque[str] = deque()
        self._outbox_chars = 0
        self._to_write = asyncio.Event()
        self._written = asyncio.Event()

    def send(self, text: str) -> None:
        """Queue a frame. An API that does not read for long loses the link, and gets the rest after `resume`."""
        if self._socket is None:
            return
        self._outbox.append(text)
        self._outbox_chars += len(text)
        self._to_write.set()
        self._written.clear()
        if self._outbox_chars > OUTBOX_CHARS:
            event(log, logging.ERROR, "link.overflow", frames=len(self._outbox))
            self.drop()

    def drop(self) -> None:
        """Close the connection now, without words; the next one is dialled at once."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def room(self) -> bool:
        """Wait until less than ROOM_CHARS are queued. False: the link is gone."""
        while self._socket is not None and self._outbox_chars > ROOM_CHARS:
            await self._written.wait()
        return self._socket is not None

    async def flushed(self) -> None:
        """Wait until everything queued was handed to the socket, or the link is gone."""
        if self._socket is not None and self._outbox:
            await self._written.wait()

    async def run(self) -> Fatal:
        """Dial, serve, dial again; returns when that is of no use any more. Cancel to stop. Raises LeaseLostError."""
        while True:
            began = time.monotonic()
            failure, reason = await self._once()
            decision = verdict(failure, reason, linked_before=self._linked_before)
            if isinstance(decision, Fatal):
                return decision
            self._backoff.link_lasted(time.monotonic() - began)
            delay = self._backoff.next_delay()
            event(log, logging.WARNING, "link.retry", why=decision.words, seconds=round(delay, 2))
            await asyncio.sleep(delay)

    # ---------------------------------------------------------------- one connection

    async def _once(self) -> tuple[int | Exception, str]:
        """One connection from dialling to its end: how it ended, and the API's words about it."""
        try:
            async with self._connect() as socket:
                async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                    welcome = await self._handshake(socket)
                await self._serve(socket, welcome)
        except ConnectionClosed as exc:
            return (exc.rcvd.code, exc.rcvd.reason) if exc.rcvd else (NO_CLOSE_FRAME, "")
        except (InvalidURI, InvalidProxy) as exc:
            return ConfigError(f"APP_SERVER_WS_URL or the proxy setting cannot be used: {exc}"), ""
        except LeaseLostError:
            raise
        except (OSError, TimeoutError, WebSocketException, PendraError) as exc:
            return exc, ""
        return NO_CLOSE_FRAME, ""

    def _connect(self) -> connect:
        return connect(
            self._url,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            ping_interval=PING_S,
            ping_timeout=PONG_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
        )

    async def _handshake(self, socket: ClientConnection) -> Welcome:
        challenge = decode_api(await socket.recv())
        if not isinstance(challenge, Challenge):
            raise _unexpected("challenge", challenge)
        await self._confirm()
        await socket.send(encode(self._hello(challenge)))
        welcome = decode_api(await socket.recv())
        if not isinstance(welcome, Welcome):
            raise _unexpected("welcome", welcome)
        return welcome

    async def _serve(self, socket: ClientConnection, welcome: Welcome) -> None:
        """Until the connection closes. Raises ConnectionClosed."""
        self._socket = socket
        self._linked_before = True
        writer = asyncio.ensure_future(self._write(socket))
        try:
            self._events.welcomed(welcome)
            while True:
                self._received(await socket.recv())
        finally:
            self._socket = None
            await ended(writer)
            self._outbox.clear()
            self._outbox_chars = 0
            self._written.set()
            self._events.unlinked()

    def _received(self, message: str | bytes) -> None:
        try:
            frame = decode_api(message)
        except BadRequestError as exc:
            event(log, logging.ERROR, "frame.malformed", where=exc.param)
            return
        self._events.frame(frame)

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            chars = 0
            while self._outbox:
                text = self._outbox.popleft()
                self._outbox_chars -= len(text)
                await socket.send(text)
                chars += len(text)
                if chars >= REPORT_CHARS or not self._outbox:
                    self._events.written(chars)  # which may bring more
                    chars = 0
            self._written.set()


def _unexpected(wanted: str, frame: ApiFrame) -> BadRequestError:
    """The other side does not speak this protocol. Retried: it may be a proxy's or a deployment's moment."""
    return BadRequestError(f"expected a {wanted} frame, got {frame.type}", code="bad_frame")
