"""The endpoint that shows the newest signed heads of the bridges' audit logs. Needs an admin's key."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ops.controlplane.auth import Gate
from ops.controlplane.checkpoints import CheckpointLog

SHOWN = 50


class AuditApi:
    def __init__(self, gate: Gate, checkpoints: CheckpointLog) -> None:
        self._gate = gate
        self._checkpoints = checkpoints

    def routes(self, prefix: str) -> list[BaseRoute]:
        return [Route(f"{prefix}/admin/audit", self.list)]

    async def list(self, request: Request) -> Response:
        """Of all logs, the newest first, SHOWN at most."""
        self._gate.admin(request.scope)
        rows = [
            {"object": "audit_checkpoint", **one.model_dump(mode="json")} for one in self._checkpoints.newest(SHOWN)
        ]
        return JSONResponse({"object": "list", "data": rows})
