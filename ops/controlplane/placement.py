"""Which bridge gets a request. Pure: the fleet as bridges advertise it goes in, a bridge or an error comes out."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from bridge.protocol import WorkerAdvert
from tasks.capability import objection
from tasks.contract import JobKind, ModelInfo
from tasks.errors import BadRequestError, NotFoundError, UnavailableError

BridgeId = tuple[str, str]
RETRY_NO_WORKER_S = 2.0


@dataclass(frozen=True, slots=True)
class BridgeView:
    """A connected bridge as it advertised itself. `free`: idle slots; `waiting`: jobs queued in it."""

    id: BridgeId
    workers: tuple[WorkerAdvert, ...]
    models: Mapping[str, ModelInfo]
    free: int = 0
    waiting: int = 0

    def holds(self, kids: Container[str]) -> bool:
        """Whether one of its workers holds one of these workload keys."""
        return any(kid in kids for worker in self.workers for kid in worker.kids)

    def carries(self, model: str, labels: tuple[str, ...], pin: str | None = None) -> bool:
        """Whether one of its workers (the pinned one) has the model and all of these labels."""
        return any(
            model in worker.models and set(labels) <= set(worker.labels) and pin in {None, worker.id}
            for worker in self.workers
        )

    def worker(self, worker_id: str) -> WorkerAdvert | None:
        return next((worker for worker in self.workers if worker.id == worker_id), None)


def place(
    kind: JobKind,
    model: str,
    bridges: Sequence[BridgeView],
    *,
    pin: str | None = None,
    kids: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
    preferred: BridgeId | None = None,
    catalogue: Container[str] = (),
) -> BridgeId:
    """The bridge to send the request to. `preferred` had the same conversation last; a full one is not worth it.

    Raises UnavailableError (nobody there, or nobody who holds one of `kids` or carries all `labels`), NotFoundError
    (model or pinned worker), BadRequestError (the model is for something else).
    """
    if not any(bridge.workers for bridge in bridges):
        raise UnavailableError(
            "no worker is connected; start one with `pendra worker`, or all of it with `pendra up`",
            retry_after=RETRY_NO_WORKER_S,
        )
    able = _pinned(bridges, pin, model) if pin else [bridge for bridge in bridges if model in bridge.models]
    if not able:
        raise _unknown(model, catalogue)
    if (unable := _incapable(kind, model, able, bridges)) is not None:
        raise unable
    if kids and not (able := [bridge for bridge in able if bridge.holds(kids)]):
        raise UnavailableError(
            "no connected worker holds a key this request was encrypted to; fetch the key again and retry",
            code="no_private_inference_worker",
        )
    if labels and not (able := [bridge for bridge in able if bridge.carries(model, labels, pin)]):
        raise UnavailableError(
            f"this API key's requests run on workers labelled {', '.join(labels)} only, and no such worker "
            f"{'is pinned here' if pin else 'that serves the model is connected'}",
            code="no_labelled_worker",
            retry_after=None if pin else RETRY_NO_WORKER_S,
        )
    return min(able, key=lambda b: (b.free <= 0, b.id != preferred, b.waiting, -b.free, b.id)).id


def _pinned(bridges: Sequence[BridgeView], pin: str, model: str) -> list[BridgeView]:
    holders = [(bridge, worker) for bridge in bridges if (worker := bridge.worker(pin)) is not None]
    if not holders:
        raise NotFoundError(
            f"the worker '{pin}' that the request is pinned to is not connected", code="worker_not_found"
        )
    able = [bridge for bridge, worker in holders if model in worker.models]
    if not able:
        raise NotFoundError(
            f"the worker '{pin}' that the request is pinned to does not have the model '{model}'",
            code="model_not_installed",
            param="model",
        )
    return able


def _unknown(model: str, catalogue: Container[str]) -> NotFoundError:
    if model in catalogue:
        return NotFoundError(
            f"the model '{model}' is in the catalogue but not installed on any connected worker; "
            f"`pendra models install {model}` installs it",
            code="model_not_installed",
            param="model",
        )
    return NotFoundError(
        f"the model '{model}' does not exist here: no connected worker serves it and the catalogue does not list it; "
        "GET /api/v1/models lists what is served",
        code="model_not_found",
        param="model",
    )


def _incapable(
    kind: JobKind, model: str, able: Sequence[BridgeView], bridges: Sequence[BridgeView]
) -> BadRequestError | None:
    rows = [bridge.models[model] for bridge in able if model in bridge.models]
    installed = (row for bridge in bridges for row in bridge.models.values())
    return objection(kind, model, rows, installed) if rows else None
