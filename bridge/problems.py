"""What the bridge itself has to tell a client, in words. They travel as data (`replies.error`), none is raised."""

from __future__ import annotations

from bridge.supervision import Due
from tasks.errors import BusyError, JobTimeoutError, PrivateReplyError, UnavailableError, WorkerError

DRAINING = UnavailableError("this bridge is draining and takes no new jobs", code="draining")
STOPPING = UnavailableError("the bridge was stopped while it held this request; send it again", code="draining")
NO_WORKER = UnavailableError("every worker that could run this request went away; try again later")
NO_REDIS = UnavailableError("the job queue (Redis) does not answer; try again later", code="redis_unavailable")
NO_AUDIT = UnavailableError(
    "requests cannot be written down in the audit log at the moment, so none is taken; try again later",
    code="audit_unavailable",
    retry_after=5.0,
)
UPLOADS_FULL = BusyError("too many files are on their way to the workers; try again later", retry_after=2.0)
UPLOAD_STALLED = WorkerError("the request's file did not arrive in full; send it again", code="blob_lost")
REPLY_LOST = WorkerError("the reply was lost between worker and bridge; send the request again", code="blob_lost")
NO_HOST = UnavailableError("no host of this fleet is connected that could install a model")
UNKNOWN_JOB = WorkerError("the bridge was restarted and lost this request", code="worker_lost")
TRIMMED = WorkerError("more was produced while the link was down than the bridge keeps", code="stream_gap")
TOO_SLOW = JobTimeoutError(
    "the API took the reply more slowly than it was made, for longer than the bridge can keep it",
    code="reader_too_slow",
)
GAP = WorkerError(
    "a part of the reply was lost between worker and bridge and could not be read again", code="stream_gap"
)
UNCLAIMED = WorkerError("no worker picked this request up in time", code="worker_lost")
SILENT = WorkerError("the worker went silent after Redis was restarted", code="worker_lost")
PRIVATE_LOST = PrivateReplyError(
    "Redis was lost, and maybe a part of this private reply with it; to go on would not be safe. Send it again"
)


def worker_lost(worker_id: str) -> WorkerError:
    return WorkerError(f"the worker '{worker_id}' stopped while it ran this request", code="worker_lost")


def attempt_lost(due: Due, worker_id: str) -> WorkerError:
    """What a timer that came up says about the attempt."""
    return {Due.CLAIM: UNCLAIMED, Due.SILENT: SILENT}.get(due) or worker_lost(worker_id)


def too_late(*, running: bool) -> JobTimeoutError:
    where = "while it was running" if running else "while it waited for a free worker"
    return JobTimeoutError(f"the request's deadline passed {where}", code="deadline_exceeded")
