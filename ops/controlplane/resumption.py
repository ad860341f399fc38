"""What becomes of a bridge's requests when it is back: they go on, start over, fail or are cancelled. Sans-I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.protocol import Cancel, JobMark, Resume, encode
from ops.controlplane.errors import problem_of
from tasks.errors import WorkerError
from tasks.logs import event

if TYPE_CHECKING:
    from ops.controlplane.bridges import Bridge
    from ops.controlplane.intake import Intake
    from ops.controlplane.jobs import Job
    from ops.controlplane.sender import Sender

MAX_RESENDS = 2

_LOG = logging.getLogger("pendra.controlplane")


class Resumption:
    """The event loop's. `clock` is monotonic."""

    def __init__(self, intake: Intake, sender: Sender, clock: Callable[[], float]) -> None:
        self._intake = intake
        self._sender = sender
        self._clock = clock

    def begin(self, bridge: Bridge) -> tuple[JobMark, ...]:
        """It is back: its open requests and how far each has come, for `welcome`."""
        marks = self._intake.marks(bridge.id)
        bridge.unconfirmed = frozenset(mark.job_id for mark in marks)
        return marks

    def end(self, bridge: Bridge, frame: Resume) -> None:
        """It has said what it holds: what it lost starts over or fails, what nobody wants is cancelled."""
        held = {mark.job_id for mark in frame.jobs}
        lost = [job for job_id in bridge.unconfirmed - held if (job := self._intake.jobs.get(job_id))]
        bridge.unconfirmed = frozenset()
        for job_id in held - self._intake.jobs.keys():
            bridge.send(encode(Cancel(job_id=job_id)))
        for job in lost:
            if job.may_start_over and job.resends < MAX_RESENDS:
                self._send_again(job)
            else:
                self._intake.fail(job, problem_of(bridge_lost("was restarted and lost this request")))

    def _send_again(self, job: Job) -> None:
        del self._intake.jobs[job.id]
        job.start_over(job.resends + 1)
        job.heard = self._clock()
        self._intake.jobs[job.id] = job
        self._sender.send(job)
        event(_LOG, logging.WARNING, "job.resent", request_id=job.request_id, resends=job.resends)


def bridge_lost(what: str) -> WorkerError:
    """The error of a request whose bridge did this."""
    return WorkerError(f"the bridge that ran this request {what}; send the request again", code="worker_lost")
