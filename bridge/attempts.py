"""What came of sending an attempt to a worker: a slot, none, or a Redis that refuses. Pure."""

from __future__ import annotations

from collections.abc import Callable

from bridge import problems
from bridge.effects import Effect, Enqueue, Release
from bridge.jobs import JobRecord, JobState, move
from bridge.ledger import Ledger
from bridge.scheduler import RETRY_S
from bridge.stream import Stream
from bridge.supervision import CLAIM_S, REDIS_GRACE_S, Due, Timer
from tasks import keys

REFUSED_RETRY_S = 0.5
MAX_REFUSALS = round(REDIS_GRACE_S / REFUSED_RETRY_S)


class Attempts:
    """Moves jobs in the ledger between release and claim; answers to older attempts change nothing.

    Inputs of the session: each returns the effects to carry out, which `flush` gathers at the time it is now.
    """

    def __init__(self, ledger: Ledger, stream: Stream, flush: Callable[[float], list[Effect]]) -> None:
        self._ledger = ledger
        self._stream = stream
        self._flush = flush

    def taken(self, job_id: str, attempt: int, worker_id: str, size: int, now: float) -> list[Effect]:
        """The attempt holds a slot of this worker; enqueue it, or give the slot back when nobody wants it now.

        `size` is that of the payload in bytes.
        """
        record = self._acquiring(job_id, attempt)
        if record is None:
            self._ledger.effects.append(Release(job_id, attempt))
            return self._flush(now)
        record.dispatched = now
        record.worker_id = worker_id
        self._ledger.fleet.hold(job_id, worker_id, record.frame.model)
        queue = keys.model_queue(record.frame.model) if record.shared_queue else keys.worker_queue(worker_id)
        move(record, JobState.DISPATCHED, worker_id=worker_id)
        self._ledger.timers.set(now + CLAIM_S, Timer(job_id, Due.CLAIM, attempt))
        self._ledger.effects.append(Enqueue(job_id, attempt, record.frame.model, queue, size))
        return self._flush(now)

    def none_free(self, job_id: str, attempt: int, now: float) -> list[Effect]:
        """Another bridge was faster; the lane is tried again in a moment."""
        record = self._acquiring(job_id, attempt)
        if record is not None:
            self._ledger.put_back(record, blocked_until=now + RETRY_S)
        return self._flush(now)

    def dispatch_failed(self, job_id: str, attempt: int, now: float) -> list[Effect]:
        """Redis did not take the job, or did and could not say so: the slot, if any, is given back."""
        self._ledger.effects.append(Release(job_id, attempt))
        record = self._acquiring(job_id, attempt)
        if record is not None and not self._refused(record, now):
            self._ledger.put_back(record, blocked_until=now + REFUSED_RETRY_S)
        return self._flush(now)

    def enqueue_failed(self, job_id: str, attempt: int, now: float) -> list[Effect]:
        """The slot is held but the message was not (or may not have been) sent."""
        record = self._ledger.jobs.open.get(job_id)
        if record is None or record.state is not JobState.DISPATCHED or record.attempt != attempt:
            return []
        if not self._refused(record, now):
            self._ledger.run_again(record, blocked_until=now + REFUSED_RETRY_S)
        return self._flush(now)

    def fenced(self, job_id: str, attempt: int, now: float) -> list[Effect]:
        """The attempt of a private job can publish nothing more."""
        record = self._fencing(job_id, attempt)
        if record is not None:
            self._stream.fenced(record)
        return self._flush(now)

    def fence_failed(self, job_id: str, attempt: int, now: float) -> list[Effect]:
        """Redis did not answer for long: whether its worker still publishes is not known, so nobody may go on."""
        record = self._fencing(job_id, attempt)
        if record is not None:
            self._ledger.fail(record, problems.NO_REDIS, now)
        return self._flush(now)

    def _refused(self, record: JobRecord, now: float) -> bool:
        """Count one more refusal by Redis; too many end the job."""
        record.refusals += 1
        if record.refusals <= MAX_REFUSALS:
            return False
        self._ledger.fail(record, problems.NO_REDIS, now)
        return True

    def _acquiring(self, job_id: str, attempt: int) -> JobRecord | None:
        record = self._ledger.jobs.open.get(job_id)
        current = record is not None and record.state is JobState.ACQUIRING and record.attempt == attempt
        return record if current else None

    def _fencing(self, job_id: str, attempt: int) -> JobRecord | None:
        record = self._ledger.jobs.open.get(job_id)
        current = record is not None and record.state is JobState.FENCING and record.attempt == attempt
        return record if current else None
