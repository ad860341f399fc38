"""The control plane put together: state, endpoints, and the clock that ticks while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from bridge.protocol import PATH
from ops.controlplane.audit_api import AuditApi
from ops.controlplane.auth import Gate
from ops.controlplane.catalogue import SiteCatalogue
from ops.controlplane.checkpoints import CheckpointLog
from ops.controlplane.config import Config
from ops.controlplane.console import console_routes
from ops.controlplane.db import Database
from ops.controlplane.errors import Problem, http_body, http_headers, problem_of
from ops.controlplane.gpu_socket import GpuSocket
from ops.controlplane.hub import Hub
from ops.controlplane.identity_api import IdentityApi
from ops.controlplane.inference import Inference
from ops.controlplane.install_api import InstallApi
from ops.controlplane.install_log import InstallLog
from ops.controlplane.jobs import new_request_id
from ops.controlplane.keystore import KeyStore
from ops.controlplane.listings import Listings
from ops.controlplane.live import Live, LiveApi
from ops.controlplane.metrics import Counted, MetricsApi, PlaneCollector, Traffic
from ops.controlplane.openapi import openapi_routes
from ops.controlplane.registry import Registry
from ops.controlplane.reply import REQUEST_ID_HEADER
from ops.controlplane.secure import SecureHeaders
from ops.controlplane.usage import UsageLog
from tasks import tracing
from tasks.cancelling import ended
from tasks.contract import JobKind
from tasks.errors import PendraError
from tasks.logs import event

log = logging.getLogger("pendra.controlplane")

_INFERENCE = {
    "/chat/completions": JobKind.CHAT,
    "/completions": JobKind.COMPLETION,
    "/embeddings": JobKind.EMBEDDINGS,
    "/rerank": JobKind.RERANK,
    "/images/generations": JobKind.IMAGE,
    "/audio/transcriptions": JobKind.TRANSCRIPTION,
    "/audio/speech": JobKind.SPEECH,
}
_UNSERVED = {"/audio/translations": "translates speech", "/moderations": "moderates"}
_PREFIXES = ("/api/v1", "/v1")


class Plane:
    """Everything one control plane owns. Made and used on one event loop; `close` when done."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError when the home cannot be used."""
        self.config = config
        self._db = Database(config.home)
        self.keys = KeyStore(self._db)
        self.gate = Gate(self.keys)
        self.registry = Registry(self._db)
        self.checkpoints = CheckpointLog(self._db)
        self.usage = UsageLog(self._db)
        self.catalogue = SiteCatalogue(config.catalogue_url)
        self.hub = Hub(config, self.usage, self.catalogue, InstallLog(self._db), self.checkpoints)
        self.live = Live(self.hub, self.registry)
        self.traffic = Traffic()
        self.tracer = tracing.start("controlplane")

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick(), name="controlplane-ticks")
            group.create_task(self.catalogue.keep(), name="controlplane-catalogue")
            group.create_task(self.live.run(), name="controlplane-live")

    async def _tick(self) -> None:
        timers = self.config.timers
        flushed = time.monotonic()
        while True:
            await asyncio.sleep(timers.tick_s)
            self.hub.tick()
            self._cut_off_revoked()
            if self.usage.pending and time.monotonic() - flushed >= timers.usage_flush_s:
                flushed = time.monotonic()
                await asyncio.to_thread(self.usage.flush)

    def _cut_off_revoked(self) -> None:
        """Keys may be revoked by another process (`pendra identities revoke`), so the file is asked at each tick."""
        there = {bridge.id[0] for bridge in self.hub.connected()}
        if there and (revoked := self.registry.revoked(there)):
            self.hub.cut_off(revoked)

    def close(self) -> None:
        self.usage.flush()
        self._db.close()
        self.tracer.close()


class App(Starlette):
    def build_middleware_stack(self) -> ASGIApp:
        # around everything, the replies to crashes included
        return Counted(SecureHeaders(super().build_middleware_stack()), self.state.plane.traffic)


def make_app(config: Config) -> Starlette:
    """The ASGI application; its `Plane` is `app.state.plane`. Raises ConfigError when the home cannot be used."""
    plane = Plane(config)
    app = App(
        routes=_routes(plane),
        lifespan=_lifespan,
        exception_handlers={
            PendraError: _pendra_error,
            HTTPException: _http_error,
            sqlite3.Error: _internal_error,
            Exception: _internal_error,
        },
    )
    app.state.plane = plane
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    plane: Plane = app.state.plane
    ticking = asyncio.create_task(plane.run(), name="controlplane")
    try:
        yield
    finally:
        plane.hub.shut_down()
        await ended(ticking)
        plane.close()


def _routes(plane: Plane) -> list[BaseRoute]:
    listings = Listings(plane.gate, plane.hub, plane.catalogue, started=int(time.time()))
    routes: list[BaseRoute] = [
        WebSocketRoute(PATH, GpuSocket(plane.config, plane.registry, plane.hub).serve),
        Route("/healthz", listings.health),
        *MetricsApi(plane.gate, PlaneCollector(plane.traffic, plane.gate, plane.hub, plane.live)).routes(),
        *openapi_routes(),
        *console_routes(),
    ]
    for prefix in _PREFIXES:
        for path, kind in _INFERENCE.items():
            endpoint = Inference(kind, plane.config, plane.gate, plane.hub, plane.tracer)
            routes.append(Route(prefix + path, endpoint, methods=["POST"]))
        routes += [
            Route(f"{prefix}/models", listings.models),
            Route(f"{prefix}/models/{{model_id:path}}", listings.model),
            Route(f"{prefix}/catalogue", listings.catalogue),
            Route(f"{prefix}/private-inference/key", listings.workload_keys),
            *(Route(prefix + path, listings.unserved(does), methods=["POST"]) for path, does in _UNSERVED.items()),
            *InstallApi(plane.gate, plane.hub, plane.catalogue).routes(prefix),
            *IdentityApi(plane.gate, plane.keys, plane.registry, plane.hub).routes(prefix),
            *AuditApi(plane.gate, plane.checkpoints).routes(prefix),
            *LiveApi(plane.gate, plane.hub, plane.live).routes(prefix),
        ]
    return routes


# ---------------------------------------------------------------- errors outside of inference


async def _pendra_error(_request: Request, exc: Exception) -> Response:
    if not isinstance(exc, PendraError):
        raise exc
    return _response(problem_of(exc))


async def _http_error(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    if status == HTTPStatus.NOT_FOUND:
        words, code = "there is nothing at this path; the API is under /v1 and /api/v1", "not_found"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        words, code = f"{request.method} is not allowed at this path", "method_not_allowed"
    else:
        words, code = HTTPStatus(status).phrase, "bad_request"
    extra = dict(exc.headers or {}) if isinstance(exc, HTTPException) else {}
    return _response(Problem(status, code, words), extra)


async def _internal_error(request: Request, exc: Exception) -> Response:
    event(log, logging.ERROR, "request.crashed", path=request.url.path, error=type(exc).__name__)
    return _response(Problem(500, "internal_error", "the API failed at this request; its log says where"))


def _response(problem: Problem, extra: dict[str, str] | None = None) -> Response:
    headers = {REQUEST_ID_HEADER: new_request_id(), **http_headers(problem), **(extra or {})}
    return JSONResponse(http_body(problem), status_code=problem.status, headers=headers)
