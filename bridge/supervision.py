"""Timers and the rules for attempts that went wrong. Pure: the session asks, nothing here acts."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum

from bridge.jobs import JobRecord, JobState
from tasks.keys import WORKER_LEASE_S

CLAIM_S = 5.0  # a slot is held, so a worker pops the message within milliseconds, or nobody consumes the queue
LATE_CLAIM_S = 1.0  # only a busy machine takes longer
LATE_CLAIMS = 512  # of the last CLAIM_S that are kept
SILENT_S = 2 * WORKER_LEASE_S  # after Redis lost its data: how long a running job may stay silent
REDIS_GRACE_S = 10.0  # how long jobs wait for a Redis that is away
HEARD_S = 1.25  # a Redis that was silent for longer is not a proof that a worker is
LATE_TICK_S = 2.0  # a tick this late means that we slept, not the workers
SLOW_TICK_S = 1.0  # twenty times what it should be: what was said meanwhile may still wait to be read
SWEEP_TIMERS = 4096
MAX_LOSSES = 3  # attempts
MAX_HANDOVERS = 16  # a rolling restart moves a long stream once a worker; beyond that something is wrong


class Due(StrEnum):
    DEADLINE = "deadline"
    CLAIM = "claim"
    SILENT = "silent"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Timer:
    """Asks for a look at a job. `attempt` and `seq` are from when it was set; `still_due` compares."""

    job_id: str
    due: Due
    attempt: int = 0
    seq: int = 0


class Claims:
    """Tells a message that is lost from one that is late: CPUs may be so busy that a claim takes longer than CLAIM_S.

    Workers take messages about in the order in which they were sent. So while messages older than ours are claimed
    late, ours is behind them; a lost one is soon older than all that are claimed.
    """

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=LATE_CLAIMS)

    def heard(self, dispatched: float | None, now: float) -> None:
        """A job that was dispatched then (None: by another bridge) was claimed."""
        if dispatched is not None and now - dispatched > LATE_CLAIM_S:
            self._late.append((now, dispatched))

    def behind(self, dispatched: float | None, now: float) -> bool:
        """Whether older messages than one of then were claimed late within the last CLAIM_S."""
        while self._late and now - self._late[0][0] > CLAIM_S:
            self._late.popleft()
        return dispatched is not None and any(older <= dispatched for _, older in self._late)


class Timers:
    """A heap of timers. None is ever cancelled: one that no longer applies is dropped when it comes up, or swept."""

    def __init__(self) -> None:
        self.claims = Claims()
        self._heap: list[tuple[float, int, Timer]] = []
        self._sweep_at = SWEEP_TIMERS
        self._count = itertools.count()

    def set(self, when: float, timer: Timer) -> None:
        heapq.heappush(self._heap, (when, next(self._count), timer))

    def pop_due(self, now: float) -> list[Timer]:
        due: list[Timer] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        return due

    def sweep(self, open_jobs: Container[str]) -> None:
        """Drop those of ended jobs, when there are many: far deadlines of short jobs would pile up for hours."""
        if len(self._heap) >= self._sweep_at:
            self._heap = [row for row in self._heap if row[2].job_id in open_jobs]
            heapq.heapify(self._heap)
            self._sweep_at = max(SWEEP_TIMERS, 2 * len(self._heap))


def still_due(timer: Timer, record: JobRecord) -> bool:
    """Whether the timer still means something for the job as it is now."""
    if record.state is JobState.ENDED:
        return False
    if timer.due is Due.DEADLINE:
        return True
    if timer.attempt != record.attempt:
        return False
    if timer.due is Due.CLAIM:
        return record.state is JobState.DISPATCHED
    moved_on = timer.due is Due.SILENT and record.next_seq != timer.seq
    return record.state is JobState.RUNNING and not moved_on


def may_run_again(record: JobRecord) -> bool:
    """Whether another attempt may follow one that was lost."""
    return record.losses < MAX_LOSSES and record.continuable and not record.behind


def may_hand_over(record: JobRecord) -> bool:
    """Whether another attempt may follow one that a draining worker gave up."""
    return record.handovers <= MAX_HANDOVERS and record.continuable and not record.behind
