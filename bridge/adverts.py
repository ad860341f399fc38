"""What the API is told about the fleet: workers, models, capacity. Each frame goes out only when it changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bridge.fleet import Fleet, WorkerView
from bridge.preference import merged, rank
from bridge.protocol import Capacity, Keys, Models, WorkerAdvert, Workers, WorkloadKey, encode
from tasks.contract import ModelInfo

EVERY_S = 0.25
_NO_PACE: Mapping[str, float] = {}


def workers_frame(fleet: Fleet, *, draining: bool = False, pace: Mapping[str, float] = _NO_PACE) -> Workers:
    """Everybody who has something to serve. `pace` as in `Overview`."""
    views = (view for view in _ordered(fleet) if not view.idle_proxy)
    return Workers(workers=tuple(_advert(view, draining=draining, pace=pace.get(view.id, 0.0)) for view in views))


def models_frame(fleet: Fleet) -> Models:
    """Every model once, as all that have it together are; details from the preferred backend's first worker."""
    rows: dict[str, list[ModelInfo]] = {}
    for view in _ordered(fleet):
        for model in view.info.models:
            rows.setdefault(model.id, []).append(model)

    def place(model: ModelInfo) -> int:
        return rank(model, fleet.order)

    return Models(models=tuple(merged(sorted(rows[model_id], key=place)) for model_id in sorted(rows)))


def capacity_frame(fleet: Fleet, waiting: int) -> Capacity:
    busy = sum(min(view.busy, view.info.slots_total) for view in fleet)
    return Capacity(slots_total=fleet.slots, slots_busy=busy, waiting=waiting)


def keys_frame(fleet: Fleet) -> Keys:
    """The workload keys that somebody in the fleet can open requests with, each once."""
    infos = [view.info for view in _ordered(fleet)]
    pairs = {kid: key for info in infos for kid, key in zip(info.kids, info.public_keys, strict=False)}
    return Keys(keys=tuple(WorkloadKey(kid=kid, public_key=key) for kid, key in pairs.items()))


class Adverts:
    """Remembers what the API heard last."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}
        self._next = 0.0

    def forget(self) -> None:
        """A new link: everything is news again."""
        self._last.clear()
        self._next = 0.0

    def news(
        self,
        fleet: Fleet,
        *,
        waiting: int,
        draining: bool,
        now: float,
        pace: Callable[[float], Mapping[str, float]] = lambda _now: _NO_PACE,
    ) -> list[str]:
        """The frames that differ from the last ones, at most every EVERY_S."""
        if now < self._next:
            return []
        self._next = now + EVERY_S
        paces = pace(now)
        frames = {
            "workers": encode(workers_frame(fleet, draining=draining, pace=paces)),
            "models": encode(models_frame(fleet)),
            "capacity": encode(capacity_frame(fleet, waiting)),
            "keys": encode(keys_frame(fleet)),
        }
        fresh = [text for name, text in frames.items() if self._last.get(name) != text]
        self._last = frames
        return fresh


def _ordered(fleet: Fleet) -> list[WorkerView]:
    return sorted(fleet, key=lambda view: view.id)


def _advert(view: WorkerView, *, draining: bool, pace: float) -> WorkerAdvert:
    info = view.info
    return WorkerAdvert(
        id=info.worker_id,
        name=info.name,
        node=info.node,
        version=info.version,
        device=info.device,
        role=info.role,
        slots_total=info.slots_total,
        slots_busy=min(view.busy, info.slots_total),
        models=tuple(sorted(view.installed)),
        draining=draining or view.draining,
        labels=info.labels,
        kids=info.kids,
        loaded=tuple(sorted(view.loaded)),
        tokens_per_second=pace,
        gpu=info.gpu,
    )
