"""`pendra controlplane`: the HTTP server around the app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from bridge.protocol import MAX_FRAME_BYTES
from ops.controlplane.app import Plane, make_app
from ops.controlplane.config import Config
from ops.controlplane.http_protocol import TimedProtocol
from ops.controlplane.keystore import FIRST_KEY_FILE, ensure_api_key
from tasks.errors import PendraError
from tasks.logs import event

__all__ = ["Server", "listen", "make_app", "run", "server_for"]

log = logging.getLogger("pendra.controlplane")

HEADER_BYTES = 32 * 1024
PING_S = 10.0
_BACKLOG = 2048


class PortTakenError(PendraError):
    default_code = "port_taken"


class Server(uvicorn.Server):
    """Tells bridges and clients that it stops before it closes their connections."""

    def __init__(self, config: uvicorn.Config, plane: Plane) -> None:
        super().__init__(config)
        self._plane = plane

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        """Stop, without raising the signal once more afterwards: a stop that was asked for is no failure."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._plane.hub.shut_down()
        await asyncio.sleep(0.05)  # lets the last frames and the ends of the replies out
        await super().shutdown(sockets)


def run(host: str, port: int, home: Path, catalogue_url: str = "") -> int:
    """Serve until SIGINT or SIGTERM; blocking. The exit code: 0, or 1 when it could not start (said on stderr)."""
    try:
        ensure_api_key(home)
        with contextlib.closing(listen(host, port)) as listener:
            _serve(listener, make_app(Config(home=home, catalogue_url=catalogue_url)), home)
    except PendraError as exc:
        event(log, logging.ERROR, "controlplane.not_started", code=exc.code, reason=exc.message)
        print(f"pendra controlplane: {exc.message}", file=sys.stderr)  # noqa: T201  # the operator's terminal
        return 1
    return 0


def _serve(listener: socket.socket, app: Starlette, home: Path) -> None:
    host, port = listener.getsockname()[:2]
    event(log, logging.INFO, "controlplane.listening", host=host, port=port, first_key_in=str(home / FIRST_KEY_FILE))
    with contextlib.suppress(KeyboardInterrupt):
        server_for(app).run(sockets=[listener])
    event(log, logging.INFO, "controlplane.stopped")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortTakenError, saying what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        raise PortTakenError(
            f"cannot listen on {host} port {port}: {exc.strerror or exc}; stop what uses it, or choose another with "
            "--port (0 = any free one)"
        ) from exc


def server_for(app: Starlette) -> Server:
    plane: Plane = app.state.plane
    config = uvicorn.Config(
        app,
        http=TimedProtocol,  # on h11: httptools has no limit for headers, and saves 5 of 27 µs a chunk
        ws="websockets-sansio",  # the one that uses no deprecated interface of websockets
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,  # tokens are small and the way is short: it costs more than it saves
        h11_max_incomplete_event_size=HEADER_BYTES,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(plane.config.timers.stop_s)),
    )
    return Server(config, plane)
