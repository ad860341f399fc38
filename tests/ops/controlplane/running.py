"""A real control plane: uvicorn on an ephemeral loopback port, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from bridge.identity import Identity, generate_seed
from ops.controlplane import ensure_api_key, register_worker
from ops.controlplane.app import Plane
from ops.controlplane.config import Config, Limits, Timers
from ops.controlplane.server import Server, listen, make_app, server_for
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import FakeBridge

QUICK = Timers(tick_s=0.02, ack_every_s=0.02, usage_flush_s=0.02)
LIMIT_S = 30.0


@dataclass
class Running:
    """Started by `start`, ended by `stop`. `identity` is registered."""

    home: Path
    timers: Timers = QUICK
    limits: Limits = field(default_factory=Limits)
    identity: Identity = field(default_factory=lambda: Identity.from_base64(generate_seed()))

    def start(self) -> None:
        self.key = ensure_api_key(self.home)
        register_worker(self.home, self.identity.public_key, "test bridge")
        listener = listen("127.0.0.1", 0)
        self.port = int(listener.getsockname()[1])
        app = make_app(Config(self.home, self.timers, self.limits))
        self.plane: Plane = app.state.plane
        self.server: Server = server_for(app)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, name="controlplane")
        self._thread.start()
        until(lambda: self.server.started)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(2 * LIMIT_S)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def bridge(self, identity: Identity | None = None) -> FakeBridge:
        return FakeBridge(f"ws://127.0.0.1:{self.port}", identity or self.identity)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=LIMIT_S, trust_env=False)

    def ready(self) -> bool:
        return httpx.get(f"{self.url}/healthz").status_code == 200


@asynccontextmanager
async def serving(
    home: Path, limits: Limits | None = None, **timers: float
) -> AsyncIterator[tuple[httpx.AsyncClient, FakeBridge, Running]]:
    """A control plane with these timers, and one bridge connected."""
    running = Running(home, replace(QUICK, **timers), limits or Limits())
    running.start()
    try:
        async with running.bridge() as bridge, running.client() as api:
            await asyncio.to_thread(until, running.ready)
            yield api, bridge, running
    finally:
        await asyncio.to_thread(running.stop)
