"""The bridge's record of a job, from `accepted` to its end, and the table of all of them.

    ┌──────────────── attempt lost, no slot free ───────────────┐
    ▼                                                           │
WAITING ──released──► ACQUIRING ──slot held──► DISPATCHED ──claimed──► RUNNING
    └───────────────────────┴──────── ENDED ◄────────┴─────────────────┘

A private job whose attempt is lost goes through FENCING first (from DISPATCHED or RUNNING, then to WAITING or ENDED):
its worker is cut off, and what it had published until then is read to the end (docs/decisions/0006).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.outbox import Outbox
from bridge.protocol import JobFrame
from tasks.contract import BlobRef
from tasks.logs import event
from tasks.private import is_private

log = logging.getLogger("pendra.bridge")

RETAIN_S = 30.0
RETAIN_JOBS = 4096
RETAIN_CHARS = 16 * 1024 * 1024


class JobState(StrEnum):
    WAITING = "waiting"
    ACQUIRING = "acquiring"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    FENCING = "fencing"
    ENDED = "ended"


class Outcome(StrEnum):
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


_NEXT: dict[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset({JobState.ACQUIRING, JobState.ENDED}),
    JobState.ACQUIRING: frozenset({JobState.WAITING, JobState.DISPATCHED, JobState.ENDED}),
    JobState.DISPATCHED: frozenset({JobState.WAITING, JobState.RUNNING, JobState.FENCING, JobState.ENDED}),
    JobState.RUNNING: frozenset({JobState.WAITING, JobState.FENCING, JobState.ENDED}),
    JobState.FENCING: frozenset({JobState.WAITING, JobState.ENDED}),
    JobState.ENDED: frozenset(),
}


@dataclass(slots=True, eq=False)
class JobRecord:
    """One accepted job. Times are monotonic seconds; only `move` changes `state`.

    `next_seq` is the seq of the next event to take; what the API got ends just before it. `tokens` are the ids
    whose text was delivered: what a later attempt continues after, unless `continuable` is False. `losses` counts
    attempts that a worker lost, `handovers` those that a draining worker gave back, `refusals` those that Redis would
    not take, and `stopped` is the last attempt known to be over or told to stop. `loose`: it was told, and has its
    slot still. Of a private job, `kid` and `steps` stand in for `tokens` (`tasks.contract.Resume`), and
    `blocked_until` is when it may wait again after FENCING. `reply` is where a large reply lies. `trace` is the W3C
    trace context for what happens to the job next.
    """

    frame: JobFrame = field(repr=False)
    arrived: float
    deadline: float | None = None
    state: JobState = JobState.WAITING
    outcome: Outcome | None = None
    attempt: int = 0
    losses: int = 0
    handovers: int = 0
    refusals: int = 0
    stopped: int = -1
    loose: bool = False
    next_seq: int = 0
    api_seq: int = -1
    seen_seq: int = -1
    remembered: bool = False
    streamed: bool = False
    continuable: bool = True
    tokens: list[int] = field(default_factory=list, repr=False)
    kid: str = ""
    steps: list[bytes] = field(default_factory=list, repr=False)
    blocked_until: float = 0.0
    worker_id: str = ""
    worker_name: str = ""
    epoch: str = ""
    avoid: str = ""
    shared_queue: bool = False
    dispatched: float | None = None
    ended: float = 0.0
    outbox: Outbox = field(default_factory=Outbox, repr=False)
    reply: BlobRef | None = None
    trace: str = ""

    @property
    def id(self) -> str:
        return self.frame.job_id

    @property
    def private(self) -> bool:
        return bool(self.frame.kids) or is_private(self.frame.body)

    @property
    def last_seq(self) -> int:
        return self.next_seq - 1

    @property
    def behind(self) -> bool:
        """Whether the API has more of it than we know of: a predecessor sent what we have still to hear."""
        return self.next_seq <= self.api_seq


def move(record: JobRecord, state: JobState, **fields: object) -> None:
    """The one place where a job changes state. A step the picture does not allow is a bug: RuntimeError."""
    if state not in _NEXT[record.state]:
        raise RuntimeError(f"job {record.id} cannot go from {record.state} to {state}")
    record.state = state
    level = logging.INFO if state is JobState.ENDED else logging.DEBUG
    event(log, level, f"job.{state}", job_id=record.id, attempt=record.attempt, **fields)


class JobTable:
    """Open jobs, and for a while the ended ones whose last frames the API has not acknowledged.

    `forgotten` is called with each of those when it is kept no longer.
    """

    def __init__(self, forgotten: Callable[[JobRecord], None] = lambda _: None) -> None:
        self._forgotten = forgotten
        self.open: dict[str, JobRecord] = {}
        self.ended: OrderedDict[str, JobRecord] = OrderedDict()
        self._ended_chars = 0
        self._lost_an_end = False

    def get(self, job_id: str) -> JobRecord | None:
        return self.open.get(job_id) or self.ended.get(job_id)

    def __iter__(self) -> Iterator[JobRecord]:
        yield from self.open.values()
        yield from self.ended.values()

    def add(self, record: JobRecord) -> None:
        self.open[record.id] = record

    def retire(self, record: JobRecord, now: float) -> None:
        """The job ended: keep its unsent tail, drop its request."""
        del self.open[record.id]
        record.ended = now
        record.frame = record.frame.model_copy(update={"body": {}})
        record.tokens.clear()
        record.steps.clear()
        self.ended[record.id] = record
        self._ended_chars += record.outbox.chars
        while len(self.ended) > RETAIN_JOBS or self._ended_chars > RETAIN_CHARS:
            oldest = next(iter(self.ended.values()))
            self._lost_an_end |= oldest.outbox.unsent > 0
            self.forget(oldest.id)

    def lost_an_end(self) -> bool:
        """Whether, since the last time, an end was forgotten that a slow link had not been given.

        Only a new link, on which both sides compare what they hold, makes the API hear of that.
        """
        lost, self._lost_an_end = self._lost_an_end, False
        return lost

    def ack(self, job_id: str, seq: int) -> None:
        record = self.get(job_id)
        if record is None:
            return
        if record.state is JobState.ENDED and seq >= record.last_seq:
            self.forget(job_id)
        elif record.state is not JobState.ENDED:
            record.outbox.ack(seq)

    def forget(self, job_id: str) -> None:
        record = self.ended.pop(job_id, None)
        if record is not None:
            self._ended_chars -= record.outbox.chars
            self._forgotten(record)

    def sweep(self, now: float) -> None:
        """Forget what ended longer than RETAIN_S ago. Not to be called while the link is down."""
        while self.ended:
            oldest = next(iter(self.ended.values()))
            if now - oldest.ended < RETAIN_S or oldest.outbox.unsent:
                return
            self.forget(oldest.id)
