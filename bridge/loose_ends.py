"""Jobs that have ended while their worker has still to stop and free their slot. Pure.

A worker frees the slot of an attempt that it is told to stop, and says so. One that dies meanwhile cannot, and the
bridge does it in its place: when the worker is known to be gone, or after LOOSE_S in any case. Until then the job
stays written down as over, so that a successor of the bridge does the same.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from bridge.effects import Effect, Forget, Release, Remember
from bridge.entries import Entry
from bridge.jobs import JobRecord

LOOSE_S = 5.0  # a worker stops within a step, and is known to be gone soon after its lease


@dataclass(frozen=True, slots=True)
class _LooseEnd:
    job_id: str
    attempt: int
    worker_id: str
    until: float


class LooseEnds:
    """In the order in which they were added. Owned by the ledger; what is to be done is returned."""

    def __init__(self) -> None:
        self._ends: OrderedDict[str, _LooseEnd] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, record: JobRecord, now: float) -> list[Effect]:
        """The job is over, and its worker has its slot still."""
        self._ends[record.id] = _LooseEnd(record.id, record.attempt, record.worker_id, now + LOOSE_S)
        return [Remember(Entry.ended(record))]

    def freed(self, record: JobRecord) -> list[Effect]:
        """Its worker has done it. A job that is none of these changes nothing."""
        record.loose = False
        return [Forget(record.id)] if self._ends.pop(record.id, None) else []

    def tie_up_due(self, now: float) -> list[Effect]:
        """Those whose worker has had its time."""
        effects: list[Effect] = []
        while self._ends and next(iter(self._ends.values())).until <= now:
            end = self._ends.popitem(last=False)[1]
            effects += tie_up(end.job_id, end.attempt)
        return effects

    def tie_up_of(self, worker_id: str) -> list[Effect]:
        """Those of a worker that is gone."""
        effects: list[Effect] = []
        for end in [end for end in self._ends.values() if end.worker_id == worker_id]:
            del self._ends[end.job_id]
            effects += tie_up(end.job_id, end.attempt)
        return effects


def tie_up(job_id: str, attempt: int) -> list[Effect]:
    """Do what its worker may not have been able to do; nothing is left of the job then."""
    return [Release(job_id, attempt), Forget(job_id)]
