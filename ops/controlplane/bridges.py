"""A bridge as the hub knows it: its link, and what it advertises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from bridge.protocol import Capacity, Hello, Keys, Models, WorkerAdvert, Workers, WorkloadKey
from ops.controlplane.placement import BridgeId, BridgeView
from tasks.contract import ModelInfo


class Link(Protocol):
    """The way to a bridge. Neither call blocks or raises; after `close` nothing is sent any more."""

    def send(self, text: str) -> None: ...

    def send_slowly(self, texts: Iterator[str]) -> None:
        """Each when nothing else waits; several of these take turns."""

    def close(self, code: int, reason: str) -> None: ...


class Bridge:
    """Connected, or away for less than the grace. Only the hub changes it."""

    def __init__(self, hello: Hello, link: Link) -> None:
        self.id: BridgeId = (hello.public_key, hello.worker_id)
        self.worker_id = hello.worker_id
        self.version = hello.version
        self.link: Link | None = link
        self.away_since: float | None = None
        self.workers: tuple[WorkerAdvert, ...] = ()
        self.models: dict[str, ModelInfo] = {}
        self.keys: tuple[WorkloadKey, ...] = ()
        self.slots_free = 0
        self.waiting = 0
        self.unconfirmed: frozenset[str] = frozenset()
        """Jobs from before the reconnect that the bridge has not said yet it still holds."""

    def send(self, text: str) -> None:
        if self.link is not None:
            self.link.send(text)

    def send_slowly(self, texts: Iterator[str]) -> None:
        if self.link is not None:
            self.link.send_slowly(texts)

    def advertise(self, frame: Workers | Models | Capacity | Keys) -> None:
        if isinstance(frame, Workers):
            self.workers = frame.workers
        elif isinstance(frame, Models):
            self.models = {model.id: model for model in frame.models}
        elif isinstance(frame, Capacity):
            self.slots_free = max(0, frame.slots_total - frame.slots_busy)
            self.waiting = frame.waiting
        else:
            self.keys = frame.keys

    def view(self) -> BridgeView:
        return BridgeView(self.id, self.workers, self.models, self.slots_free, self.waiting)


def served_models(bridges: Iterable[Bridge]) -> dict[str, tuple[ModelInfo, tuple[str, ...]]]:
    """Every model once, by id, with the workers that have it; `loaded` if any bridge says so."""
    merged: dict[str, tuple[ModelInfo, tuple[str, ...]]] = {}
    for bridge in bridges:
        for model in bridge.models.values():
            known, workers = merged.get(model.id, (model, ()))
            if model.loaded and not known.loaded:
                known = known.model_copy(update={"loaded": True})
            holders = tuple(worker.id for worker in bridge.workers if model.id in worker.models)
            merged[model.id] = (known, (*workers, *holders))
    return dict(sorted(merged.items()))
