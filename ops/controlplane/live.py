"""What a console watches: one stream of server-sent events with the fleet, the charts' points and the installs."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from ops.controlplane.auth import Gate
from ops.controlplane.fleet_view import fleet_view, sample
from ops.controlplane.hub import Hub
from ops.controlplane.installs import Watcher
from ops.controlplane.registry import Registry
from tasks.errors import PendraError

SAMPLE_S = 1.0
KEPT_SAMPLES = 300
SHOWN_INSTALLS = 20
LOOK_S = 0.5
CHECK_S = 5.0  # so soon a key that was revoked sees nothing more


class Live:
    """The event loop's. Samples are taken also while nobody watches: who comes sees the last five minutes."""

    def __init__(self, hub: Hub, registry: Registry, wall: Callable[[], float] = time.time) -> None:
        self._hub = hub
        self._registry = registry
        self._wall = wall
        self.pending: tuple[str, ...] = ()  # ids of the identities that wait for approval
        self.samples: deque[dict[str, Any]] = deque(maxlen=KEPT_SAMPLES)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.pending = self._registry.pending()
            self.samples.append(sample(self._hub.bridges, self._wall()))
            await asyncio.sleep(SAMPLE_S)


class Viewer:
    """What one reader has been told, so that it hears only news. Writes the events' bytes."""

    def __init__(self, hub: Hub, live: Live) -> None:
        self._hub = hub
        self._live = live
        self._fleet = ""
        self._sample: dict[str, Any] | None = None

    def first(self) -> Iterator[bytes]:
        """The charts' past, the fleet, and the latest installs, the oldest of them first."""
        yield _event("history", list(self._live.samples))
        self._sample = self._newest()
        yield from self.news()
        yield from self.installs(record.id for record in reversed(self._hub.installs.all()[:SHOWN_INSTALLS]))

    def news(self) -> Iterator[bytes]:
        fleet = fleet_view(self._hub.bridges) | {"pending": self._live.pending}
        if (text := _json(fleet)) != self._fleet:
            self._fleet = text
            yield _event("fleet", fleet)
        newest = self._newest()
        if newest is not None and newest is not self._sample:
            self._sample = newest
            yield _event("sample", newest)

    def installs(self, ids: Iterable[str]) -> Iterator[bytes]:
        there = {bridge.id for bridge in self._hub.connected()}
        for request_id in ids:
            record = self._hub.installs.get(request_id)
            yield _event("install", record.view(connected=record.bridge in there))

    def _newest(self) -> dict[str, Any] | None:
        return self._live.samples[-1] if self._live.samples else None


class LiveApi:
    """`GET …/live`, for an admin's key (docs/operations.md)."""

    def __init__(self, gate: Gate, hub: Hub, live: Live) -> None:
        self._gate = gate
        self._hub = hub
        self._live = live

    def routes(self, prefix: str) -> list[BaseRoute]:
        return [Route(f"{prefix}/live", self.watch)]

    async def watch(self, request: Request) -> Response:
        """SSE: `history`, `fleet`, `install`s; then what changes, and a `sample` a second."""
        self._gate.admin(request.scope)
        stream = self._stream(request.scope, self._hub.installs.watch())
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def _stream(self, scope: Scope, watcher: Watcher) -> AsyncIterator[bytes]:
        """Until the reader goes, the API stops, or the key is no longer an admin's (`denied`)."""
        viewer, check_at = Viewer(self._hub, self._live), time.monotonic() + CHECK_S
        try:
            yield b"".join(viewer.first())
            while not self._hub.stopping:
                ids = await _changed(watcher)
                if time.monotonic() >= check_at:
                    check_at = time.monotonic() + CHECK_S
                    if not self._still_admin(scope):
                        yield _event("denied", {})
                        return
                if news := b"".join([*viewer.installs(ids), *viewer.news()]):
                    yield news
        finally:
            watcher.close()

    def _still_admin(self, scope: Scope) -> bool:
        try:
            self._gate.admin(scope)
        except PendraError:
            return False
        return True


async def _changed(watcher: Watcher) -> Iterable[str]:
    """Ids of installs that changed, none after LOOK_S."""
    try:
        async with asyncio.timeout(LOOK_S):
            return await watcher.changed()
    except TimeoutError:
        return ()


def _event(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {_json(data)}\n\n".encode()


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
