"""The endpoints for API keys and bridges' identities. All need an admin's key (docs/security.md)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ops.controlplane.auth import Gate
from ops.controlplane.bodies import read_object
from ops.controlplane.hub import Hub
from ops.controlplane.keystore import KeyStore
from ops.controlplane.registry import Registration, Registry
from ops.controlplane.scope import MAX_NAME_CHARS, new_key_of
from tasks.errors import BadRequestError, ConfigError, NotFoundError


class IdentityApi:
    def __init__(self, gate: Gate, keys: KeyStore, registry: Registry, hub: Hub) -> None:
        self._gate = gate
        self._keys = keys
        self._registry = registry
        self._hub = hub

    def routes(self, prefix: str) -> list[BaseRoute]:
        keys, identities = f"{prefix}/admin/keys", f"{prefix}/admin/identities"
        one = f"{identities}/{{name}}"
        return [
            Route(keys, self.list_keys),
            Route(keys, self.create_key, methods=["POST"]),
            Route(f"{keys}/{{name}}/revoke", self.revoke_key, methods=["POST"]),
            Route(identities, self.list_identities),
            Route(identities, self.enrol, methods=["POST"]),
            Route(f"{one}/approve", self.approve, methods=["POST"]),
            Route(f"{one}/revoke", self.revoke, methods=["POST"]),
        ]

    # ---------------------------------------------------------------- API keys

    async def list_keys(self, request: Request) -> Response:
        self._gate.admin(request.scope)
        return JSONResponse(_list(key.view(time.time()) for key in self._keys.list()))

    async def create_key(self, request: Request) -> Response:
        """201: the key, with `key`, its plain text, this once."""
        self._gate.admin(request.scope)
        wanted = new_key_of(await read_object(request))
        plain = self._keys.create(wanted.name, admin=wanted.admin, scope=wanted.scope)
        made = self._keys.find(plain)
        if made is None:
            raise BadRequestError("the key would expire at once", param="expires")
        return JSONResponse({**made.view(time.time()), "key": plain}, 201)

    async def revoke_key(self, request: Request) -> Response:
        self._gate.admin(request.scope)
        key_id = request.path_params["name"]
        if not self._keys.revoke(key_id):
            raise NotFoundError("there is no live API key of that id", code="key_not_found")
        found = next(key for key in self._keys.list() if key.id == key_id)
        return JSONResponse(found.view(time.time()))

    # ---------------------------------------------------------------- identities

    async def list_identities(self, request: Request) -> Response:
        self._gate.admin(request.scope)
        return JSONResponse(_list(self._view(row) for row in self._registry.list()))

    async def enrol(self, request: Request) -> Response:
        """201: a bridge that shows this key is let in."""
        self._gate.admin(request.scope)
        body = await read_object(request)
        public_key, name = _text(body, "public_key"), _text(body, "name")
        try:
            self._registry.register(public_key, name)
        except ConfigError as exc:
            raise BadRequestError(exc.message, param="public_key") from None
        return JSONResponse(self._view(self._registry.named(public_key)), 201)

    async def approve(self, request: Request) -> Response:
        self._gate.admin(request.scope)
        return JSONResponse(self._view(self._registry.approve(request.path_params["name"])))

    async def revoke(self, request: Request) -> Response:
        """It is cut off before the answer goes out."""
        self._gate.admin(request.scope)
        row = self._registry.named(request.path_params["name"])
        self._registry.revoke(row.public_key)
        self._hub.cut_off({row.public_key})
        return JSONResponse(self._view(self._registry.named(row.public_key)))

    def _view(self, row: Registration) -> dict[str, Any]:
        connected = any(bridge.id[0] == row.public_key for bridge in self._hub.connected())
        return {**row.view(), "connected": connected}


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_NAME_CHARS or not value.isprintable():
        raise BadRequestError(f"'{name}' must be text of 1 to {MAX_NAME_CHARS} characters", param=name)
    return value.strip()


def _list(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": list(rows)}
