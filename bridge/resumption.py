"""After a reconnect: what we hold is said, what the API forgot is cancelled, what it missed is sent again. Pure."""

from __future__ import annotations

import logging

from bridge import problems, replies
from bridge.installs import Installs
from bridge.jobs import JobRecord, JobState
from bridge.ledger import Ledger
from bridge.protocol import JobMark, Resume, Welcome, encode
from bridge.supervision import SILENT_S, Due, Timer
from tasks.logs import event

log = logging.getLogger("pendra.bridge")


class Resumption:
    """Brings both sides of a new link to the same knowledge of the open jobs."""

    def __init__(self, ledger: Ledger, installs: Installs) -> None:
        self._ledger = ledger
        self._installs = installs

    def welcomed(self, welcome: Welcome, now: float) -> int:
        """How many jobs the API still waits for."""
        ledger = self._ledger
        wanted = {mark.job_id: mark.seq for mark in welcome.resume}
        for record in [r for r in ledger.jobs.open.values() if r.id not in wanted]:
            ledger.cancel(record, now)
        for job_id in [job_id for job_id in ledger.jobs.ended if job_id not in wanted]:
            ledger.jobs.forget(job_id)
        ledger.send(encode(Resume(jobs=tuple(JobMark(job_id=r.id, seq=r.last_seq) for r in ledger.jobs))))
        for job_id, seq in wanted.items():
            if not self._installs.knows(job_id):
                self._replay(job_id, seq, now)
        self._installs.welcomed(wanted)
        return len(wanted)

    def _replay(self, job_id: str, seq: int, now: float) -> None:
        ledger = self._ledger
        record = ledger.jobs.get(job_id)
        if record is None:
            ledger.send(replies.error(job_id, seq + 1, problems.UNKNOWN_JOB))
            return
        if seq <= record.last_seq and record.outbox.rewind(seq):
            ledger.flow.wait(record)
            ledger.send_reply(record)
        elif seq > record.last_seq and record.state in {JobState.DISPATCHED, JobState.RUNNING}:
            self._listen_on(record, seq, now)
        elif record.state is not JobState.ENDED:
            ledger.fail(record, problems.TRIMMED, now, seq=seq + 1)
        else:
            ledger.send(replies.error(job_id, seq + 1, problems.TRIMMED))

    def _listen_on(self, record: JobRecord, seq: int, now: float) -> None:
        """A predecessor sent what is not in the stream (Redis had no room for it): its worker will say it again."""
        record.api_seq = seq
        event(log, logging.WARNING, "job.behind", job_id=record.id, has=record.last_seq, api_has=seq)
        silent = Timer(record.id, Due.SILENT, record.attempt, record.next_seq)
        self._ledger.timers.set(now + SILENT_S, silent)
