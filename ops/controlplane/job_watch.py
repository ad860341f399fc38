"""What time makes of the requests that are being answered: signs of life, and an end to silence on either side."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ops.controlplane.errors import problem_of
from ops.controlplane.jobs import Job, JobState
from ops.controlplane.mailbox import Sign
from ops.controlplane.silence import Verdict, is_stalled, judge, timeout_words
from tasks.errors import JobTimeoutError, PendraError
from tasks.logs import event

if TYPE_CHECKING:
    from ops.controlplane.config import Config
    from ops.controlplane.intake import Intake

_LOG = logging.getLogger("pendra.controlplane")


class JobWatch:
    """`ops.controlplane.silence` judges; this does what follows. The event loop's."""

    def __init__(self, config: Config, intake: Intake) -> None:
        self._timers, self._limits = config.timers, config.limits
        self._intake = intake

    def look_at(self, job: Job, now: float) -> None:
        """A job that is open, or has ended while its handler still writes. `now` is monotonic."""
        if job.state is not JobState.OPEN:
            if is_stalled(job, now, self._timers):
                _drop_reader(job)
            return
        match judge(job, now, self._timers, self._limits):
            case Verdict.KEEP_ALIVE:
                job.nudged = now
                job.mailbox.put(Sign.KEEP_ALIVE)
            case Verdict.TIMED_OUT:
                self._end(job, JobTimeoutError(timeout_words(job, self._timers)))
            case Verdict.READER_TOO_SLOW:
                words = f"the client left {job.mailbox.unread} bytes of the reply unread"
                self._end(job, JobTimeoutError(words, code="reader_too_slow"))
                _drop_reader(job)

    def _end(self, job: Job, error: PendraError) -> None:
        self._intake.fail(job, problem_of(error), stop=True)


def _drop_reader(job: Job) -> None:
    """The handler is stuck in writing to a client that does not read: that is all one can do."""
    event(_LOG, logging.WARNING, "reader.dropped", request_id=job.request_id, unread=job.mailbox.unread)
    if job.reader is not None:
        job.dropped = True
        job.reader.cancel()
