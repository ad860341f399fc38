"""Jobs that have ended while their worker has still to stop and free their slot. Pure.

A worker frees the slot of an attempt that it is told to stop, and says so. One that dies meanwhile cannot, and the
bridge does it in its place: when the worker is known to be gone, or after LOOSE_S in any case. Until then the job
stays written down as over, so that a successor of the bridge does the same.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

LOOSE_S = 5.0  # a worker stops within a step, and is known to be gone soon after its lease


@dataclass(frozen=True, slots=True)
class LooseEnd:
    job_id: str
    attempt: int
    worker_id: str
    until: float


class LooseEnds:
    """In the order in which they were added."""

    def __init__(self) -> None:
        self._ends: OrderedDict[str, LooseEnd] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, job_id: str, attempt: int, worker_id: str, now: float) -> None:
        self._ends[job_id] = LooseEnd(job_id, attempt, worker_id, now + LOOSE_S)

    def drop(self, job_id: str) -> bool:
        """Its worker has done it. False when it was not one of them."""
        return self._ends.pop(job_id, None) is not None

    def take_due(self, now: float) -> list[LooseEnd]:
        """Those whose worker has had its time."""
        due: list[LooseEnd] = []
        while self._ends and next(iter(self._ends.values())).until <= now:
            due.append(self._ends.popitem(last=False)[1])
        return due

    def take_of(self, worker_id: str) -> list[LooseEnd]:
        """Those of a worker that is gone."""
        gone = [end for end in self._ends.values() if end.worker_id == worker_id]
        for end in gone:
            del self._ends[end.job_id]
        return gone
