"""The whole fleet as Redis tells it in one look: heartbeats of the workers, reports of the bridges. Content-free."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import redis

from ops.commands.jobs import overviews
from ops.node_state import live_workers
from tasks.contract import JobRow, ModelInfo, Overview, WorkerInfo
from tasks.errors import UnavailableError

WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """One model of the fleet. `holders`: workers that have it, `loaded`: those that have it in memory; jobs open."""

    info: ModelInfo
    holders: int
    loaded: int
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Reading:
    """`at`: seconds since the epoch. Workers by id, bridges by id."""

    at: float
    workers: tuple[WorkerInfo, ...]
    bridges: tuple[Overview, ...]

    @property
    def slots_total(self) -> int:
        return sum(worker.slots_total for worker in self.workers)

    @property
    def slots_busy(self) -> int:
        return sum(min(worker.slots_busy, worker.slots_total) for worker in self.workers)

    @property
    def hosts(self) -> int:
        return len({worker.node for worker in self.workers})

    @property
    def waiting(self) -> int:
        return sum(bridge.waiting for bridge in self.bridges)

    @property
    def tokens_per_second(self) -> float:
        return sum(self.pace_of(worker.worker_id) for worker in self.workers)

    @property
    def jobs(self) -> tuple[JobRow, ...]:
        """The oldest first, of all bridges; a bridge lists its oldest 500."""
        rows = (row for bridge in self.bridges for row in bridge.rows)
        return tuple(sorted(rows, key=lambda row: -row.age_s))

    def pace_of(self, worker_id: str) -> float:
        return max((bridge.pace.get(worker_id, 0.0) for bridge in self.bridges), default=0.0)

    def models(self) -> tuple[ModelLoad, ...]:
        """By id."""
        jobs = Counter((row.model, row.state == WAITING) for row in self.jobs)
        rows: dict[str, list[ModelInfo]] = {}
        for worker in self.workers:
            for model in worker.models:
                rows.setdefault(model.id, []).append(model)
        return tuple(
            ModelLoad(
                info=infos[0],
                holders=len(infos),
                loaded=sum(info.ready for info in infos),
                running=jobs[name, False],
                waiting=jobs[name, True],
            )
            for name, infos in sorted(rows.items())
        )


def read_fleet(client: redis.Redis) -> Reading:
    """Four round trips. Raises UnavailableError(`redis_unavailable`)."""
    try:
        workers = live_workers(client)
    except (redis.RedisError, OSError) as exc:
        raise UnavailableError("Redis does not answer", code="redis_unavailable") from exc
    shown = [workers[name] for name in sorted(workers) if not _idle_proxy(workers[name])]
    return Reading(time.time(), tuple(shown), tuple(overviews(client)))


def _idle_proxy(worker: WorkerInfo) -> bool:
    """It has slots, but its host runs no external server that could fill them."""
    return worker.role == "proxy" and not worker.models
