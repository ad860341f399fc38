"""uvicorn's HTTP connection with a time limit on the head of a request, which uvicorn itself does not have.

A client that opens a connection and never ends its request line and headers (slowloris) would hold it for ever.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""From the first byte (or the connection) to the end of the headers."""


class TimedProtocol(H11Protocol):
    head_s = HEAD_S
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """The timer runs exactly while the head of a request is being awaited; more bytes do not prolong it."""
        if not self._in_head():
            self._unwatch()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_s, self._late)

    def _in_head(self) -> bool:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # upgraded to a WebSocket
            return False
        began = self.cycle is None or bool(self.conn.trailing_data[0])
        return self.conn.their_state is h11.IDLE and began

    def _unwatch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._head_timer = None
        if self._in_head():
            self.transport.abort()
