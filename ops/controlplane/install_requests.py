"""What an admin asks for, from the body of a request to what each bridge is asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ops.controlplane.catalogue import Catalogue, Variant
from ops.controlplane.install_record import Action, Wish
from ops.controlplane.placement import BridgeId, BridgeView
from tasks.errors import BadRequestError, NotFoundError, UnavailableError
from worker.store.curated import PENDRA
from worker.store.sources import has_password

_EVERYWHERE = frozenset({PENDRA, "both"})


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    model: str = Field(min_length=1, max_length=256)
    worker_id: str | None = None
    all: bool = False
    backend: str | None = None


class InstallBody(_Body):
    """POST /api/v1/installs. `worker_id`: a worker or a host; `variant`: a quantisation; the rest: an own source."""

    variant: str | None = None
    source: str | None = Field(default=None, repr=False)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")
    size: int | None = Field(default=None, gt=0)
    purpose: str | None = Field(default=None, pattern="^(chat|embedding|rerank|image|transcription)$")
    licence: str | None = None
    mirrors: tuple[str, ...] = Field(default=(), repr=False)


class UninstallBody(_Body):
    """POST /api/v1/uninstalls. `force`: wait for the jobs that use it instead of refusing."""

    force: bool = False


class CancelBody(BaseModel):
    """POST /api/v1/installs/{id}/cancel."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    discard: bool = False


def read(kind: type[InstallBody | UninstallBody | CancelBody], body: Mapping[str, Any]) -> Any:
    """Raises BadRequestError that names the field and never quotes what was sent."""
    try:
        return kind.model_validate(body)
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "body"
        raise BadRequestError(f"{where}: {first['msg']}", param=where) from None


def install_wish(body: InstallBody, catalogue: Catalogue) -> Wish:
    """What is to be installed. A model that is not in our catalogue may be in that of the hosts: they decide.

    Raises BadRequestError, NotFoundError.
    """
    if any(has_password(url) for url in (body.source or "", *body.mirrors)):
        raise BadRequestError(
            "a source must not hold a password: tasks are visible; put it into ~/.netrc of the host",
            code="bad_source",
            param="source",
        )
    entry = catalogue.find(body.model)
    common: dict[str, Any] = {"action": Action.INSTALL, "model": body.model, "quantisation": body.variant}
    if body.source is not None or entry is None:
        return Wish(**common, backend=body.backend, variant=_own(body))
    backend = body.backend or (None if entry.backend in _EVERYWHERE else entry.backend)
    variant = entry.variant(body.variant)
    if backend not in (None, PENDRA):
        return Wish(**common, backend=backend, variant=_named(variant, backend))
    more = {"capability": entry.capability, "licence": entry.licence}
    return Wish(**common, backend=backend, variant=variant.model_dump(mode="json", exclude_none=True) | more)


def uninstall_wish(body: UninstallBody, catalogue: Catalogue) -> Wish:
    entry = catalogue.find(body.model)
    backend = body.backend or (None if entry is None or entry.backend in _EVERYWHERE else entry.backend)
    return Wish(action=Action.UNINSTALL, model=body.model, backend=backend, force=body.force)


def bridges_for(body: _Body, bridges: Sequence[BridgeView]) -> list[tuple[BridgeId, str | None]]:
    """Whom to ask, and for which worker (None = all hosts of that bridge).

    Raises UnavailableError (nobody is connected), NotFoundError, BadRequestError when it is not said where.
    """
    if not any(bridge.workers for bridge in bridges):
        raise UnavailableError("no worker is connected; start one with `pendra worker`", retry_after=2)
    if body.all and body.worker_id:
        raise BadRequestError("say either worker_id or all, not both", param="all")
    nodes = sorted({worker.node for bridge in bridges for worker in bridge.workers})
    if body.worker_id:
        found = [bridge for bridge in bridges if _has(bridge, body.worker_id)]
        if not found:
            words = f"there is no worker or host '{body.worker_id}'; the hosts are {', '.join(nodes)}"
            raise NotFoundError(words, code="worker_not_found", param="worker_id")
        return [(found[0].id, body.worker_id)]
    if not body.all and len(nodes) > 1:
        words = f"say where: worker_id (a worker or a host: {', '.join(nodes)}), or all: true"
        raise BadRequestError(words, param="worker_id")
    return [(bridge.id, None) for bridge in bridges if bridge.workers]


def _has(bridge: BridgeView, worker_id: str) -> bool:
    return any(worker_id in (worker.id, worker.node) for worker in bridge.workers)


def _own(body: InstallBody) -> dict[str, Any]:
    said = {
        "gguf_url": body.source,
        "gguf_sha256": body.sha256.lower() if body.sha256 else None,
        "size": body.size,
        "mirrors": list(body.mirrors) or None,
        "capability": body.purpose,
        "licence": body.licence,
        "quantisation": body.variant,
    }
    return {name: value for name, value in said.items() if value is not None}


def _named(variant: Variant, backend: str | None) -> dict[str, Any]:
    """What the backend calls it, if the catalogue knows."""
    name = variant.backends.get(backend or "")
    return {"quantisation": variant.quantisation} | ({"name": name} if name else {})
