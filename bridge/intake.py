"""The way in: a job frame is recorded, answered `accepted` or refused in words, and waits for a slot. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable

from bridge import problems, replies
from bridge.admission import Ahead, Arrival, Limits, admission
from bridge.ledger import Ledger
from bridge.placement import Need, need_of, plan, refusal, slots_for
from bridge.protocol import JobFrame
from bridge.supervision import REDIS_GRACE_S
from bridge.uploads import Uploads
from bridge.watch import Watch
from tasks.errors import PendraError
from tasks.logs import event

log = logging.getLogger("pendra.bridge")


class Intake:
    """Takes jobs into the ledger. `veto`: why no new job may be taken at the moment, None = nothing is against it."""

    def __init__(
        self, ledger: Ledger, uploads: Uploads, watch: Watch, limits: Limits, veto: Callable[[], PendraError | None]
    ) -> None:
        self._ledger = ledger
        self._uploads = uploads
        self._watch = watch
        self._limits = limits
        self._veto = veto
        self.draining = False
        """Nothing new is taken any more."""

    def take(self, frame: JobFrame, now: float) -> None:
        """Known ids change nothing. One with parts that are still to come is taken when they are here."""
        known = self._ledger.jobs.get(frame.job_id)
        if known is not None or frame.job_id in self._uploads:
            state = known.state if known else "gathering"
            event(log, logging.WARNING, "job.repeated", job_id=frame.job_id, state=str(state))
            return
        need = need_of(frame)
        ahead = self._ledger.scheduler.ahead_of(need, frame.tenant, frame.priority, now)
        problem = self._objection(frame, now) or self._refusal(frame, need, ahead)
        if problem is None and self._uploads.begin(frame, now):
            return
        record = self._ledger.open(frame, now)
        if problem is not None:
            self._ledger.fail(record, problem, now)
            return
        self._ledger.remember(record)
        self._ledger.send(replies.accepted(record, ahead.position))
        self._ledger.wait(record)

    def _objection(self, frame: JobFrame, now: float) -> PendraError | None:
        """Why no job like this is taken now. Pure but for reading the state."""
        if self.draining:
            return problems.DRAINING
        if self._watch.redis_gone_for(now) > REDIS_GRACE_S:
            return problems.NO_REDIS
        return self._veto() or self._uploads.objection(frame)

    def _refusal(self, frame: JobFrame, need: Need, ahead: Ahead) -> PendraError | None:
        """Why the fleet could not run it, or not soon enough."""
        ledger = self._ledger
        if (problem := refusal(need, ledger.fleet)) is not None:
            return problem
        arrival = Arrival(
            model=frame.model,
            priority=frame.priority,
            ahead=ahead,
            slots=slots_for(need, ledger.fleet),
            # what others wait for is not free, whatever our own count of the slots says: another bridge has it
            can_go_now=ledger.scheduler.is_empty(need) and plan(need, ledger.fleet) is not None,
            remaining=ledger.remaining(frame),
        )
        return admission(arrival, ledger.rates, self._limits)
