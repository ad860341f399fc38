"""Who is gone and what is overdue: leases, timers, Redis itself. Pure; the session asks on every tick."""

from __future__ import annotations

import logging

from bridge import problems
from bridge.effects import SweepWorker
from bridge.fleet import Gone
from bridge.jobs import JobRecord, JobState
from bridge.ledger import Ledger
from bridge.supervision import (
    CLAIM_S,
    HEARD_S,
    LATE_TICK_S,
    REDIS_GRACE_S,
    SILENT_S,
    SLOW_TICK_S,
    Due,
    Timer,
    still_due,
)
from tasks.contract import WorkerInfo
from tasks.logs import event

log = logging.getLogger("pendra.bridge")


_PUBLISHING = {JobState.DISPATCHED, JobState.RUNNING, JobState.FENCING}


class Watch:
    """Judges leases only while it could hear: not while Redis is away or silent, nor after we slept ourselves."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._down: float | None = None
        self._ticked: float | None = None
        self._slow = float("-inf")
        self._heard = 0.0

    @property
    def redis_down(self) -> bool:
        return self._down is not None

    def redis_gone_for(self, now: float) -> float:
        """Seconds since Redis stopped answering; 0 while it answers."""
        return 0.0 if self._down is None else now - self._down

    def heard(self, now: float) -> None:
        """Redis has passed something on, so what it does not say is not there. After a silence leases start anew."""
        if self._silent(now):
            self._ledger.fleet.renew_all(now)
        self._heard = now

    def _silent(self, now: float) -> bool:
        return now - self._heard > HEARD_S

    def redis_lost(self, now: float) -> None:
        if self._down is None:
            self._down = now
            event(log, logging.WARNING, "redis.down", open_jobs=len(self._ledger.jobs.open))

    def redis_back(self, now: float, *, data_lost: bool) -> None:
        """Leases start anew. Messages that were lost are sent again; running jobs get a while to be heard of."""
        self._down = None
        self._ledger.fleet.renew_all(now)
        event(log, logging.INFO, "redis.up", data_lost=data_lost)
        for record in list(self._ledger.jobs.open.values()):
            if data_lost and record.private and record.state in _PUBLISHING:
                self._ledger.fail(record, problems.PRIVATE_LOST, now)
                continue
            if data_lost:
                self._ledger.remember(record)
            if record.state is JobState.DISPATCHED and data_lost:
                self._ledger.run_again(record)
            elif record.state is JobState.DISPATCHED:
                self._ledger.timers.set(now + CLAIM_S, Timer(record.id, Due.CLAIM, record.attempt))
            elif record.state is JobState.RUNNING and data_lost:
                self._ledger.timers.set(now + SILENT_S, Timer(record.id, Due.SILENT, record.attempt, record.next_seq))

    def tick(self, now: float) -> None:
        pause = 0.0 if self._ticked is None else now - self._ticked
        if pause > LATE_TICK_S:
            self._ledger.fleet.renew_all(now)
        if pause > SLOW_TICK_S:
            self._slow = now
        self._ticked = now
        if self._down is None and not self._silent(now):
            self._judge_leases(now)
        if self.redis_gone_for(now) > REDIS_GRACE_S:
            self._fail_waiting(now)
        for timer in self._ledger.timers.pop_due(now):
            record = self._ledger.jobs.open.get(timer.job_id)
            if record is not None and still_due(timer, record):
                self._overdue(record, timer.due, now)
        self._ledger.timers.sweep(self._ledger.jobs.open)
        if self._down is None:
            self._ledger.effects += self._ledger.loose.tie_up_due(now)
        for orphan in self._ledger.scheduler.orphans(now):
            self._ledger.fail(self._ledger.jobs.open[orphan.job_id], problems.NO_WORKER, now)

    def news(self, news: WorkerInfo | Gone, now: float) -> None:
        """A heartbeat or a goodbye. A heartbeat of another process means that the one before is gone."""
        if isinstance(news, Gone):
            self._lose_worker(news.worker_id, "worker.gone", now)
            return
        fleet = self._ledger.fleet
        if fleet.is_new_process(news):
            self._lose_worker(news.worker_id, "worker.restarted", now, follows=news.epoch)
        if fleet.get(news.worker_id) is None:
            event(log, logging.INFO, "worker.joined", worker_id=news.worker_id, slots=news.slots_total)
        fleet.upsert(news, now)
        self._ledger.pace.beat(news.worker_id, news.engines, now)

    def _lose_worker(self, worker_id: str, why: str, now: float, *, follows: str = "-") -> None:
        """The worker is gone, and with it the attempts it had. `why` is the action to log.

        `follows`: the epoch of the process that took its place, and may have claimed a job before it was heard of.
        """
        mine = [record for record in self._ledger.jobs.open.values() if _has(worker_id, record)]
        lost = [record for record in mine if record.epoch != follows]
        self._ledger.fleet.remove(worker_id)
        event(log, logging.WARNING if lost else logging.INFO, why, worker_id=worker_id, jobs=len(lost))
        for record in lost:
            self._ledger.lose(record, problems.worker_lost(worker_id), now)
        self._ledger.effects += self._ledger.loose.tie_up_of(worker_id)

    def _judge_leases(self, now: float) -> None:
        for worker_id in self._ledger.fleet.lapsed(now):
            self._lose_worker(worker_id, "worker.lapsed", now)
            self._ledger.effects.append(SweepWorker(worker_id))

    def _overdue(self, record: JobRecord, due: Due, now: float) -> None:
        if due is Due.DEADLINE:
            self._ledger.fail(record, problems.too_late(running=record.state is JobState.RUNNING), now)
        elif pause := self._unproven_for(record, due, now):
            self._ledger.timers.set(now + pause, Timer(record.id, due, record.attempt, record.next_seq))
        elif self._down is None and not (due is Due.UNSEEN and self._has_come(record)):
            event(log, logging.WARNING, f"attempt.{due}", job_id=record.id, attempt=record.attempt)
            self._ledger.lose(record, problems.attempt_lost(due, record.worker_id), now)

    def _unproven_for(self, record: JobRecord, due: Due, now: float) -> float:
        """Seconds until a timer that came up may prove something: Redis was silent, we or the workers are behind."""
        if self._down is not None:
            return 0.0
        if self._silent(now) or now - self._slow < HEARD_S:
            return HEARD_S
        return CLAIM_S if due is Due.CLAIM and self._ledger.timers.claims.behind(record.dispatched, now) else 0.0

    def _has_come(self, record: JobRecord) -> bool:
        return self._ledger.fleet.has(record.worker_id, record.epoch)

    def _fail_waiting(self, now: float) -> None:
        for record in list(self._ledger.jobs.open.values()):
            if record.state is JobState.WAITING:
                self._ledger.fail(record, problems.NO_REDIS, now)


def _has(worker_id: str, record: JobRecord) -> bool:
    return record.worker_id == worker_id and record.state in {JobState.DISPATCHED, JobState.RUNNING}
