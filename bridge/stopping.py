"""How an attempt is stopped: what its worker is told, and who frees its slot. Pure: marks the job, returns effects.

A worker that is told to stop frees the slot itself. What no worker has claimed yet, and what a worker had that may be
gone, the bridge frees.
"""

from __future__ import annotations

from bridge.effects import CancelOnWorker, Effect, Fence, Release
from bridge.jobs import JobRecord, JobState


def tell(record: JobRecord, worker_id: str, attempt: int) -> list[Effect]:
    """Tell the worker to stop this attempt, unless it was told before or is over by its own account."""
    if record.stopped >= attempt:
        return []
    record.stopped = attempt
    return [CancelOnWorker(worker_id, record.id, attempt)]


def stop(record: JobRecord, *, worker_frees: bool) -> list[Effect]:
    """End the attempt in Redis and on the worker. `worker_frees`: a worker that runs it is there to free the slot."""
    if record.state is JobState.FENCING:
        return []
    told = _tell_if_running(record)
    if record.state is JobState.RUNNING and worker_frees:
        record.loose = bool(told)
        return told
    return [*told, Release(record.id, record.attempt)]


def fence(record: JobRecord) -> list[Effect]:
    """The fence comes first, so that nothing the worker says about being stopped is published."""
    return [Fence(record.id, record.attempt), *_tell_if_running(record)]


def _tell_if_running(record: JobRecord) -> list[Effect]:
    return tell(record, record.worker_id, record.attempt) if record.state is JobState.RUNNING else []
