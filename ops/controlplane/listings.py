"""The endpoints that answer from what is known here: health, models, catalogue, private-inference keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ops.controlplane.auth import Gate
from ops.controlplane.bridges import served_models
from ops.controlplane.catalogue import UNREADABLE, SiteCatalogue
from ops.controlplane.errors import ERROR_CODE_HEADER
from ops.controlplane.hub import Hub
from tasks.capability import unserved
from tasks.contract import ModelInfo
from tasks.errors import BadRequestError, NotFoundError

MODEL_TYPES = ("chat", "embedding", "rerank", "image", "transcription", "speech")


class Listings:
    def __init__(self, gate: Gate, hub: Hub, catalogue: SiteCatalogue, started: int) -> None:
        self._gate = gate
        self._hub = hub
        self._started = started
        self._catalogue = catalogue

    async def health(self, _request: Request) -> Response:
        """Public. 503 until a worker serves a model."""
        bridges = self._hub.connected()
        models = list(served_models(bridges))
        workers = sum(len(bridge.workers) for bridge in bridges)
        ready = bool(workers and models)
        body = {"status": "ready" if ready else "starting", "workers": workers, "models": models}
        return JSONResponse(body, status_code=200 if ready else 503, headers={"cache-control": "no-store"})

    async def catalogue(self, _request: Request) -> Response:
        """Public. A site's catalogue that cannot be read is replaced, and `notice` says by what."""
        found = await self._catalogue.get()
        body = {**found.model_dump(mode="json", exclude_none=True), "source": self._catalogue.source}
        if self._catalogue.problem is None:
            return JSONResponse(body)
        notice = {"code": UNREADABLE, "message": self._catalogue.problem}
        return JSONResponse({**body, "notice": notice}, headers={ERROR_CODE_HEADER: UNREADABLE})

    async def models(self, request: Request) -> Response:
        key = self._gate.user(request.scope)
        wanted = request.query_params.get("type")
        if wanted is not None and wanted not in MODEL_TYPES:
            raise BadRequestError(f"'type' must be one of {', '.join(MODEL_TYPES)}", param="type")
        served = served_models(self._hub.connected()).values()
        rows = [
            self._row(model, workers)
            for model, workers in served
            if wanted in (None, model.capability) and key.scope.covers(model.id)
        ]
        return JSONResponse({"object": "list", "data": rows})

    async def model(self, request: Request) -> Response:
        key = self._gate.user(request.scope)
        model_id = request.path_params["model_id"]
        found = served_models(self._hub.connected()).get(model_id)
        if found is None or not key.scope.covers(model_id):
            raise NotFoundError(
                f"no connected worker serves the model '{model_id}'; GET /api/v1/models lists what is served",
                param="model",
            )
        return JSONResponse(self._row(*found))

    def unserved(self, does: str) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint for what no backend can do (`does`: in words): it says what the installed models can."""

        async def refuse(request: Request) -> Response:
            self._gate.user(request.scope)
            raise unserved(does, [model for model, _ in served_models(self._hub.connected()).values()])

        return refuse

    async def workload_keys(self, request: Request) -> Response:
        self._gate.user(request.scope)
        keys = self._hub.keys()
        if not keys:
            raise NotFoundError(
                "no connected worker holds a private-inference key; give the workers one and connect them",
                code="no_private_inference_key",
            )
        return JSONResponse({"keys": [{"kid": key.kid, "public_key": key.public_key} for key in keys]})

    def _row(self, model: ModelInfo, workers: tuple[str, ...]) -> dict[str, Any]:
        """OpenAI's shape, then ours. `created` is when this API started: nobody knows when a model was made."""
        head = {"id": model.id, "object": "model", "created": self._started, "owned_by": "pendra"}
        return {**head, "type": model.capability, **model.model_dump(exclude={"id"}), "workers": workers}
