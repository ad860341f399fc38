"""`/ws/gpu`: a bridge's connection, from the challenge to the close."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator

from starlette.websockets import WebSocket, WebSocketDisconnect

from bridge.identity import Refusal, generate_nonce
from bridge.protocol import Challenge, CloseCode, Hello, encode
from ops.controlplane.config import Config
from ops.controlplane.handshake import PENDING, check_hello, close_reason, read_hello
from ops.controlplane.hub import Hub
from ops.controlplane.registry import Registry
from ops.controlplane.scope import MAX_NAME_CHARS
from tasks.errors import BadRequestError
from tasks.logs import event

log = logging.getLogger("pendra.controlplane")


class SocketLink:
    """Sends in order from one task, so that nobody waits for the network; `close` goes after what was sent."""

    def __init__(self, socket: WebSocket, limit_bytes: int) -> None:
        self._socket = socket
        self._limit = limit_bytes
        self._texts: deque[str] = deque()
        self._waiting_chars = 0
        self._slow: deque[Iterator[str]] = deque()
        self._wake = asyncio.Event()
        self._closing: tuple[int, str] | None = None

    def send(self, text: str) -> None:
        if self._closing is not None:
            return
        self._texts.append(text)
        self._waiting_chars += len(text)
        self._wake.set()
        if self._waiting_chars > self._limit:
            self._texts.clear()
            self.close(CloseCode.BAD_FRAME, f"{self._waiting_chars} characters were left unread")

    def send_slowly(self, texts: Iterator[str]) -> None:
        self._slow.append(texts)
        self._wake.set()

    def close(self, code: int, reason: str) -> None:
        if self._closing is None:
            self._closing = (code, close_reason(reason))
            self._wake.set()

    async def write(self) -> None:
        """Runs until `close` was carried out or the connection is gone."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # RuntimeError: closed from the other side
            while True:
                while self._texts:
                    text = self._texts.popleft()
                    self._waiting_chars -= len(text)
                    await self._socket.send_text(text)
                if self._closing is not None:
                    await self._socket.close(*self._closing)
                    return
                if (piece := self._next_slow()) is not None:
                    await self._socket.send_text(piece)
                    continue
                self._wake.clear()
                await self._wake.wait()

    def _next_slow(self) -> str | None:
        while self._slow:
            texts = self._slow.popleft()
            if (text := next(texts, None)) is not None:
                self._slow.append(texts)
                return text
        return None


class GpuSocket:
    """The endpoint is `serve`."""

    def __init__(self, config: Config, registry: Registry, hub: Hub) -> None:
        self._timers, self._limits = config.timers, config.limits
        self._registry = registry
        self._hub = hub
        self._greetings = 0

    async def serve(self, socket: WebSocket) -> None:
        if self._greetings >= self._limits.greetings:
            await socket.close()  # before it is accepted: 403
            return
        await socket.accept()
        link = SocketLink(socket, self._limits.outbound_bytes)
        writer = asyncio.create_task(link.write(), name="gpu-socket-writer")
        try:
            await self._converse(socket, link)
        except WebSocketDisconnect:
            pass
        finally:
            link.close(CloseCode.SHUTTING_DOWN, "")  # does nothing when a reason was given before
            await writer

    async def _converse(self, socket: WebSocket, link: SocketLink) -> None:
        self._greetings += 1
        try:
            hello = await self._greet(socket, link)
        finally:
            self._greetings -= 1
        if isinstance(hello, Refusal):
            event(log, logging.WARNING, "bridge.refused", code=int(hello.code), reason=hello.reason)
            link.close(hello.code, hello.reason)
            return
        bridge = self._hub.connect(hello, link)
        if bridge is None:
            return
        self._registry.seen(hello.public_key, hello.worker_id)
        try:
            while True:
                self._hub.received(bridge, link, await _receive(socket))
        except BadRequestError as exc:
            event(log, logging.WARNING, "frame.bad", worker_id=bridge.worker_id, where=exc.param)
            link.close(CloseCode.BAD_FRAME, exc.message)
        finally:
            self._hub.disconnected(bridge, link)

    async def _greet(self, socket: WebSocket, link: SocketLink) -> Hello | Refusal:
        nonce = generate_nonce()  # good for the one hello that this connection may send
        link.send(encode(Challenge(nonce=nonce, time=time.time())))
        try:
            async with asyncio.timeout(self._timers.handshake_s):
                text = await _receive(socket)
        except TimeoutError:
            return Refusal(CloseCode.HANDSHAKE_TIMEOUT, f"no hello came within {self._timers.handshake_s:g} s")
        except BadRequestError as exc:
            return Refusal(CloseCode.BAD_FRAME, exc.message)
        hello = read_hello(text)
        if isinstance(hello, Refusal):
            return hello
        registration = self._registry.find(hello.public_key)
        why = check_hello(hello, nonce=nonce, registration=registration, now=time.time())
        if why is PENDING:
            self._registry.ask(hello.public_key, hello.worker_id, hello.name[:MAX_NAME_CHARS])
        return why or hello


async def _receive(socket: WebSocket) -> str:
    """The next message as text. Raises WebSocketDisconnect, and BadRequestError for what is no UTF-8."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1006), message.get("reason"))
    text: str | None = message.get("text")
    if text is not None:
        return text
    try:
        return bytes(message["bytes"]).decode()
    except UnicodeDecodeError:
        raise BadRequestError(
            "a frame is JSON in UTF-8; this message is not", code="bad_frame", param="frame"
        ) from None
