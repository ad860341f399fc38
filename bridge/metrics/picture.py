"""The session's state at one moment, for metrics: taken on the event loop, read on another thread. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from bridge.jobs import JobState
from bridge.ledger import Ledger
from tasks.contract import WorkerInfo


@dataclass(frozen=True, slots=True)
class Waiting:
    """Jobs for one model without a slot: how many, and the seconds since the oldest arrived."""

    jobs: int = 0
    oldest_s: float = 0.0

    def plus(self, other: Waiting) -> Waiting:
        return Waiting(self.jobs + other.jobs, max(self.oldest_s, other.oldest_s))


@dataclass(frozen=True, slots=True)
class Picture:
    """`open` by state; `waiting` by model, as requests name it; `workers` with the slots they have busy."""

    bridge_id: str
    linked: bool
    redis_down: bool
    draining: bool
    installs: int
    open: dict[str, int]
    waiting: dict[str, Waiting]
    workers: tuple[tuple[WorkerInfo, int], ...]


def picture(ledger: Ledger, now: float, *, redis_down: bool, draining: bool, installs: int) -> Picture:
    """All parts are copies."""
    records = ledger.jobs.open.values()
    states = Counter(str(record.state) for record in records)
    waiting: dict[str, Waiting] = {}
    for record in records:
        if record.state in {JobState.WAITING, JobState.ACQUIRING}:
            one = Waiting(1, now - record.arrived)
            waiting[record.frame.model] = waiting.get(record.frame.model, Waiting()).plus(one)
    return Picture(
        bridge_id=ledger.bridge_id,
        linked=ledger.linked,
        redis_down=redis_down,
        draining=draining,
        installs=installs,
        open={str(state): states[str(state)] for state in JobState if state is not JobState.ENDED},
        waiting=waiting,
        workers=tuple((view.info, min(view.busy, view.info.slots_total)) for view in ledger.fleet),
    )
