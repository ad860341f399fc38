"""The endpoints that change and watch what the hosts have installed. All need an admin's key (docs/operations.md)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from ops.controlplane.auth import Gate
from ops.controlplane.bodies import read_object
from ops.controlplane.catalogue import SiteCatalogue
from ops.controlplane.hub import Hub
from ops.controlplane.install_record import InstallRecord, Stop, Wish
from ops.controlplane.install_requests import (
    CancelBody,
    InstallBody,
    UninstallBody,
    bridges_for,
    install_wish,
    read,
    uninstall_wish,
)
from ops.controlplane.installs import Watcher
from ops.controlplane.keystore import ApiKey
from ops.controlplane.sse import COMMENT

KEEP_ALIVE_S = 15.0


class InstallApi:
    def __init__(self, gate: Gate, hub: Hub, catalogue: SiteCatalogue) -> None:
        self._gate = gate
        self._hub = hub
        self._catalogue = catalogue

    def routes(self, prefix: str) -> list[BaseRoute]:
        one = f"{prefix}/installs/{{request_id}}"
        return [
            Route(f"{prefix}/installs", self.install, methods=["POST"]),
            Route(f"{prefix}/uninstalls", self.uninstall, methods=["POST"]),
            Route(f"{prefix}/installs", self.list),
            Route(f"{prefix}/installs/events", self.events),
            Route(one, self.show),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/events", self.events),
        ]

    # ---------------------------------------------------------------- asking

    async def install(self, request: Request) -> Response:
        """202 and what was begun, one entry a bridge."""
        key = self._admin(request)
        body = read(InstallBody, await read_object(request))
        return self._begin(key, body, install_wish(body, await self._catalogue.get()))

    async def uninstall(self, request: Request) -> Response:
        """202 and what was begun, one entry a bridge."""
        key = self._admin(request)
        body = read(UninstallBody, await read_object(request))
        return self._begin(key, body, uninstall_wish(body, await self._catalogue.get()))

    async def cancel(self, request: Request) -> Response:
        """202: it ends when its hosts have stopped."""
        self._admin(request)
        body = read(CancelBody, await read_object(request))
        stop = Stop.DISCARD if body.discard else Stop.KEEP
        return JSONResponse(self._view(self._hub.installs.cancel(request.path_params["request_id"], stop)), 202)

    def _begin(self, key: ApiKey, body: InstallBody | UninstallBody, wish: Wish) -> Response:
        chosen = bridges_for(body, [bridge.view() for bridge in self._hub.connected()])
        begun = [
            self._hub.installs.open(wish.model_copy(update={"worker_id": worker_id}), bridge, key.id)
            for bridge, worker_id in chosen
        ]
        return JSONResponse(_list(self._view(record) for record in begun), 202)

    # ---------------------------------------------------------------- watching

    async def list(self, request: Request) -> Response:
        """`?state=running` for those that have not ended."""
        self._admin(request)
        wanted = request.query_params.get("state")
        records = [record for record in self._hub.installs.all() if wanted in (None, record.state)]
        return JSONResponse(_list(self._view(record) for record in records))

    async def show(self, request: Request) -> Response:
        self._admin(request)
        return JSONResponse(self._view(self._hub.installs.get(request.path_params["request_id"])))

    async def events(self, request: Request) -> Response:
        """SSE: how it stands now, then each change; of one install until its end, of all of them for ever."""
        self._admin(request)
        only = request.path_params.get("request_id")
        installs = self._hub.installs
        records = [installs.get(only)] if only else [record for record in installs.all() if record.open]
        stream = self._stream(installs.watch(), records, only)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def _stream(
        self, watcher: Watcher, first: Iterable[InstallRecord], only: str | None
    ) -> AsyncIterator[bytes]:
        try:
            for record in first:
                yield self._event(record)
            while only is None or self._hub.installs.get(only).open:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        changed = await watcher.changed()
                except TimeoutError:
                    yield COMMENT
                    continue
                for request_id in changed:
                    if only in (None, request_id):
                        yield self._event(self._hub.installs.get(request_id))
        finally:
            watcher.close()

    # ---------------------------------------------------------------- parts

    def _event(self, record: InstallRecord) -> bytes:
        text = json.dumps(self._view(record), ensure_ascii=False, separators=(",", ":"))
        return f"event: install\nid: {record.id}\ndata: {text}\n\n".encode()

    def _view(self, record: InstallRecord) -> dict[str, Any]:
        return record.view(connected=any(bridge.id == record.bridge for bridge in self._hub.connected()))

    def _admin(self, request: Request) -> ApiKey:
        return self._gate.admin(request.scope)


def _list(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": list(rows)}
