"""The fleet as this bridge sees it: heartbeats in, who is alive and how full out. Pure, single writer.

A lease is judged by when a heartbeat was *received* (monotonic), so clocks of other hosts do not matter.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pydantic import ValidationError
from pydantic_core import from_json

from tasks.contract import CONTRACT_VERSION, ModelInfo, WorkerInfo, understands
from tasks.keys import WORKER_LEASE_S
from tasks.logs import event
from tasks.settings_values import BACKENDS

_LOG = logging.getLogger("pendra.bridge")
_BEATS = 2  # a heartbeat on its way may be older than what we just saw; the second one is not


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker said goodbye."""

    worker_id: str


@dataclass(slots=True, eq=False)
class WorkerView:
    """One serving process. `held`: our jobs that hold one of its slots, with their model; `rows`: its models by id.

    `ran`: models it just ran, with the number of heartbeats to go until only those say whether they are loaded.
    `turn`: of the last job that it was given, so that equally idle workers take turns.
    """

    info: WorkerInfo
    seen: float
    held: dict[str, str] = field(default_factory=dict)
    rows: dict[str, ModelInfo] = field(default_factory=dict)
    installed: frozenset[str] = frozenset()
    loaded: frozenset[str] = frozenset()
    ran: dict[str, int] = field(default_factory=dict)
    told_to_drain: bool = False
    turn: int = 0

    @property
    def id(self) -> str:
        return self.info.worker_id

    @property
    def busy(self) -> int:
        """Slots in use, as far as we or the worker know (other bridges use them too)."""
        return max(len(self.held), self.info.slots_busy)

    @property
    def free(self) -> int:
        """Slots we may try for. Ours alone count: a heartbeat is up to a second old, and `acquire` decides anyway."""
        return self.info.slots_total - len(self.held)

    @property
    def idle_proxy(self) -> bool:
        """A proxy worker whose host runs no external server: it has slots, but nothing to serve."""
        return self.info.role == "proxy" and not self.info.models

    @property
    def speaks(self) -> bool:
        """Its version is near enough to ours for work."""
        return understands(self.info.v)

    @property
    def draining(self) -> bool:
        return self.told_to_drain or self.info.draining

    def held_by_others(self, model: str) -> int:
        """How many of our jobs here are for other models."""
        return sum(held != model for held in self.held.values())

    def is_loading(self, model: str) -> bool:
        """The model is on its way into memory, or there although no heartbeat has said so yet."""
        return model not in self.loaded and (model in self.ran or model in self.held.values())

    def beat(self, now: float) -> None:
        self.seen = now
        if self.ran:
            self.ran = {model: left - 1 for model, left in self.ran.items() if left > 1}

    def take_in(self, info: WorkerInfo) -> None:
        self.info = info
        self.rows = {model.id: model for model in info.models}
        self.installed = frozenset(self.rows)
        self.loaded = frozenset(model.id for model in info.models if model.ready)


class Fleet:
    """All live workers, and which of our jobs hold whose slots. `freed` counts the slots given back.

    `order`: backends, the preferred first.
    """

    def __init__(self) -> None:
        self.order: tuple[str, ...] = BACKENDS
        self._workers: dict[str, WorkerView] = {}
        self._holder: dict[str, str] = {}
        self.freed = 0
        self._turn = 0

    def __iter__(self) -> Iterator[WorkerView]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, worker_id: str) -> WorkerView | None:
        return self._workers.get(worker_id)

    def has(self, worker_id: str, epoch: str) -> bool:
        """Whether this very process is there ("": whichever has the id)."""
        known = self._workers.get(worker_id)
        return known is not None and epoch in {"", known.info.epoch}

    def is_new_process(self, info: WorkerInfo) -> bool:
        """Whether this heartbeat comes from another process than the one we knew under the id."""
        known = self._workers.get(info.worker_id)
        return known is not None and known.info.epoch != info.epoch

    def upsert(self, info: WorkerInfo, now: float) -> bool:
        """Take a heartbeat in. True when it says something new."""
        view = self._workers.get(info.worker_id)
        if view is None:
            view = self._workers[info.worker_id] = WorkerView(info, now)
            if not view.speaks:
                _log_stranger(info)
        elif view.info == info:
            view.beat(now)
            return False
        view.beat(now)
        view.take_in(info)
        return True

    def remove(self, worker_id: str) -> None:
        """Forget a worker; the jobs that held its slots hold nothing now."""
        view = self._workers.pop(worker_id, None)
        for job_id in view.held if view else ():
            self._holder.pop(job_id, None)

    def lapsed(self, now: float) -> list[str]:
        return [view.id for view in self if now - view.seen > WORKER_LEASE_S]

    def renew_all(self, now: float) -> None:
        """Start every lease anew: it was us, or Redis, who did not listen."""
        for view in self:
            view.seen = now

    def drain(self, worker_id: str) -> bool:
        view = self._workers.get(worker_id)
        if view is None:
            return False
        view.told_to_drain = True
        return True

    def hold(self, job_id: str, worker_id: str, model: str) -> None:
        """The job holds one of the worker's slots now, and no other."""
        self.drop(job_id)
        view = self._workers.get(worker_id)
        if view is not None:
            view.held[job_id] = model
            self._turn += 1
            view.turn = self._turn
            self._holder[job_id] = worker_id

    def drop(self, job_id: str) -> None:
        holder = self._workers.get(self._holder.pop(job_id, ""))
        if holder is not None:
            holder.held.pop(job_id, None)
            self.freed += 1

    def ran(self, worker_id: str, model: str) -> None:
        """The worker ran this model just now."""
        view = self._workers.get(worker_id)
        if view is not None:
            view.ran[model] = _BEATS

    @property
    def slots(self) -> int:
        return sum(view.info.slots_total for view in self if not view.idle_proxy)


def _log_stranger(info: WorkerInfo) -> None:
    about = {"worker_id": info.worker_id, "version": info.version, "contract": info.v, "ours": CONTRACT_VERSION}
    event(_LOG, logging.ERROR, "fleet.version_refused", **about, hint="upgrade the older of bridge and worker")


def decode_fleet(message: bytes | str) -> WorkerInfo | Gone | None:
    """A message of the fleet channel; None for one this version does not understand."""
    try:
        data = from_json(message)
        if isinstance(data, dict) and "gone" in data:
            return Gone(str(data["gone"]))
        return WorkerInfo.model_validate(data)
    except (ValueError, ValidationError):
        return None


def models_of(workers: Iterable[WorkerView]) -> frozenset[str]:
    return frozenset[str]().union(*(view.installed for view in workers))
