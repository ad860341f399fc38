"""Taking over the jobs of a bridge that died. Pure.

Each job is put where its newest attempt began; the replay stream, read from its beginning, then moves it to where
it is now, as if its events had just come. What no worker has by then is dispatched anew. Until then nobody is judged:
an attempt that was given up too early would miss what is still to be read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bridge.effects import CancelOnWorker
from bridge.entries import Found
from bridge.fleet import Gone
from bridge.jobs import JobRecord, JobState
from bridge.ledger import Ledger
from bridge.loose_ends import tie_up
from bridge.outbox import Outbox
from bridge.supervision import CLAIM_S, Due, Timer
from tasks.contract import WorkerInfo
from tasks.logs import event

log = logging.getLogger("pendra.bridge")


class Adoption:
    """`begin`, then the stream, then `end`; once, before the link is up."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._homeless: list[JobRecord] = []
        self._news: list[WorkerInfo | Gone] = []
        self.active = False

    def begin(self, left: Sequence[Found], now: float) -> None:
        self.active = True
        for found in left:
            self._take_over(found, now)
        if left:
            event(log, logging.WARNING, "bridge.adopting", jobs=len(left))

    def end(self) -> None:
        """The stream has told what became of the jobs. Those that hold no slot and were not heard of wait again."""
        self.active = False
        for record in self._homeless:
            if record.state is JobState.DISPATCHED:
                self._ledger.run_again(record)
        self._homeless.clear()

    def put_off(self, news: WorkerInfo | Gone) -> None:
        """What the fleet says meanwhile is for later."""
        self._news.append(news)

    def take_news(self) -> list[WorkerInfo | Gone]:
        news, self._news = self._news, []
        return news

    def _take_over(self, found: Found, now: float) -> None:
        entry, ledger = found.entry, self._ledger
        if entry.over:
            self._tie_up(found)
            return
        record = ledger.open(entry.frame, now)
        record.state = JobState.DISPATCHED  # it may be out there; `end` knows
        record.attempt, record.losses, record.handovers = entry.attempt, entry.losses, entry.handovers
        record.next_seq, record.seen_seq = entry.next_seq, entry.next_seq - 1
        record.outbox = Outbox.restored(entry.unacked, entry.next_seq)
        record.streamed, record.continuable = entry.streamed, entry.continuable
        record.tokens = list(entry.tokens)
        record.kid, record.steps = entry.kid, list(entry.steps)
        record.remembered = True
        ledger.scheduler.adopted(entry.frame.tenant)
        if not found.holder:
            self._homeless.append(record)
            return
        record.worker_id = found.holder
        ledger.fleet.hold(record.id, found.holder, entry.frame.model)
        ledger.timers.set(now + CLAIM_S, Timer(record.id, Due.CLAIM, record.attempt))

    def _tie_up(self, found: Found) -> None:
        """The job has ended; its worker may not have heard of it, and may not be there to free its slot."""
        job_id, attempt = found.entry.id, found.entry.attempt
        if found.holder:
            self._ledger.effects.append(CancelOnWorker(found.holder, job_id, attempt))
        self._ledger.effects += tie_up(job_id, attempt)
