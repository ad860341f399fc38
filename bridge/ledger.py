"""All the session's state, and the few moves a job can make. Every rule about *when* is in `session` and `stream`.

A job's slot is counted in `fleet` from the moment it is released until its attempt is over; its tenant's share in
`scheduler` for the same time. Keeping these three in step is what this class is for.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from bridge import problems, replies, stopping
from bridge.admission import Rates
from bridge.effects import Acquire, DropBlobs, Effect, Forget, Remember, Send, SendReply
from bridge.entries import Entry
from bridge.fleet import Fleet
from bridge.flow import Flow
from bridge.hooks import Hooks, NoHooks
from bridge.jobs import JobRecord, JobState, JobTable, Outcome, move
from bridge.loose_ends import LooseEnds
from bridge.outbox import Outbox
from bridge.pace import Pace
from bridge.payload import payload_of
from bridge.placement import need_of
from bridge.protocol import JobFrame
from bridge.scheduler import Go, Scheduler, Waiting
from bridge.supervision import Due, Timer, Timers, may_hand_over, may_run_again
from tasks import keys
from tasks.contract import Finished
from tasks.errors import PendraError, WorkerError
from tasks.tracing import context_of


class Ledger:
    """Not thread-safe; the session is its only user. What is to be done outside gathers in `effects`."""

    def __init__(self, bridge_id: str, wall: Callable[[], float] = time.time, hooks: Hooks | None = None) -> None:
        self.bridge_id = bridge_id
        self.hooks: Hooks = hooks or NoHooks()
        self.jobs = JobTable(self._forgotten)
        self.fleet = Fleet()
        self.scheduler = Scheduler(self.fleet)
        self.timers = Timers()
        self.rates = Rates()
        self.pace = Pace()
        self.effects: list[Effect] = []
        self.flow = Flow()
        self.loose = LooseEnds()
        self._wall = wall

    @property
    def linked(self) -> bool:
        return self.flow.linked

    # ---------------------------------------------------------------- frames for the API

    def send(self, text: str) -> None:
        """A frame for the API that belongs to no outbox: it is lost while the link is down."""
        if self.flow.linked:
            self.effects.append(Send(text))
            self.flow.given(text)

    def deliver(self, record: JobRecord, text: str) -> None:
        """The job's next frame."""
        self._put(record, text)
        record.next_seq += 1

    def _put(self, record: JobRecord, text: str) -> None:
        passes = self.flow.passes(record.outbox)
        record.outbox.add((record.next_seq, text, False), sent=passes)
        if passes:
            self.send(text)
        else:
            self.flow.wait(record)

    def send_reply(self, record: JobRecord) -> None:
        """A large reply goes beside its result; while the link is down it waits for the API to ask."""
        if record.reply is not None and self.linked:
            self.effects.append(SendReply(record.id, record.reply))

    def acked(self, job_id: str, seq: int) -> None:
        """The API has everything of the job up to and including `seq`."""
        record = self.jobs.get(job_id)
        self.jobs.ack(job_id, seq)
        if record is not None and record.reply is not None and self.jobs.get(job_id) is None:
            self.effects.append(DropBlobs(job_id, keys.reply(job_id)))

    # ---------------------------------------------------------------- until it has a slot

    def open(self, frame: JobFrame, now: float) -> JobRecord:
        remaining = self.remaining(frame)
        deadline = None if remaining is None else now + remaining
        record = JobRecord(frame, arrived=now, deadline=deadline, trace=context_of(frame.traceparent))
        self.jobs.add(record)
        self.hooks.arrived(record, now)
        if deadline is not None:
            self.timers.set(deadline, Timer(record.id, Due.DEADLINE))
        return record

    def remaining(self, frame: JobFrame) -> float | None:
        """Seconds to the job's deadline, None when it has none."""
        return None if frame.deadline is None else frame.deadline - self._wall()

    def remember(self, record: JobRecord) -> None:
        """Write it down as it is now, for a bridge that may have to go on with it."""
        record.remembered = True
        self.effects.append(Remember(Entry.of(record)))

    def wait(self, record: JobRecord, *, first: bool = False, blocked_until: float = 0.0) -> None:
        frame = record.frame
        need = need_of(frame, record.kid, resumes=bool(record.tokens or record.steps))
        waiting = Waiting(record.id, need, frame.tenant, frame.priority, record.arrived, record.avoid, frame.affinity)
        self.scheduler.add(waiting, first=first, blocked_until=blocked_until)

    def go(self, released: Go) -> None:
        record = self.jobs.open[released.job_id]
        record.shared_queue = released.plan.shared
        move(record, JobState.ACQUIRING)
        if record.attempt:
            self.remember(record)
        self.hooks.released(record)
        self.effects.append(Acquire(payload_of(record, self.bridge_id), released.plan.candidates))

    def put_back(self, record: JobRecord, blocked_until: float) -> None:
        """The attempt got no slot: wait again, same attempt."""
        self._drop_slot(record)
        move(record, JobState.WAITING)
        self.wait(record, first=True, blocked_until=blocked_until)

    # ---------------------------------------------------------------- attempts that were lost

    def lose(self, record: JobRecord, problem: PendraError, now: float) -> None:
        """A worker lost the attempt: another goes on after what was delivered, or, lost too often, an error."""
        record.losses += 1
        self._again(record, problem, now, allowed=may_run_again(record))

    def hand_over(self, record: JobRecord, problem: PendraError, now: float) -> None:
        """A worker that drains gave the attempt up on purpose: nobody's fault, so it does not count as lost."""
        record.handovers += 1
        self._again(record, problem, now, allowed=may_hand_over(record))

    def _again(self, record: JobRecord, problem: PendraError, now: float, *, allowed: bool) -> None:
        self.hooks.lost(record, problem.code)
        if allowed:
            self.run_again(record, avoid=record.worker_id)
        else:
            self.fail(record, problem, now, give_back=True, seq=record.api_seq + 1 if record.behind else None)

    def run_again(self, record: JobRecord, *, avoid: str = "", blocked_until: float = 0.0) -> None:
        """Give this attempt up; the next one waits at the head of the queue and goes on after what was delivered."""
        record.avoid, record.blocked_until = avoid, blocked_until
        if record.private and record.state in {JobState.DISPATCHED, JobState.RUNNING}:
            self.effects += stopping.fence(record)
            move(record, JobState.FENCING, worker_id=record.worker_id)
            return
        self._stop(record, give_back=True)
        self._next_attempt(record)

    def fenced_off(self, record: JobRecord) -> None:
        """All that the lost attempt of a private job had published was taken: another may go on after it."""
        self._drop_slot(record)
        self._next_attempt(record)

    def _next_attempt(self, record: JobRecord) -> None:
        record.attempt += 1
        record.worker_id = record.worker_name = record.epoch = ""
        record.seen_seq = record.next_seq - 1
        move(record, JobState.WAITING, avoid=record.avoid)
        self.wait(record, first=True, blocked_until=record.blocked_until)

    def stop_stale(self, record: JobRecord, worker_id: str, attempt: int) -> None:
        """Something arrived from an attempt that was given up: make sure, once, that its worker knows."""
        self.effects += stopping.tell(record, worker_id, attempt)

    # ---------------------------------------------------------------- the end

    def finish(self, record: JobRecord, event: Finished, now: float) -> None:
        view = self.fleet.get(record.worker_id)
        try:
            result = replies.result(record, event, view.info.version if view else "")
        except WorkerError as problem:
            self.fail(record, problem, now)
            return
        self.hooks.finished(record, event)
        self._put(record, replies.usage(record, event))
        self.deliver(record, result)
        record.reply = event.blob
        self.send_reply(record)
        self.fleet.ran(record.worker_id, record.frame.model)
        if record.dispatched is not None:
            self.rates.served(record.frame.model, now - record.dispatched)
        self._end(record, Outcome.FINISHED, now)

    def fail(
        self, record: JobRecord, problem: PendraError, now: float, *, give_back: bool = False, seq: int | None = None
    ) -> None:
        """End with an error. `seq`: for an API that misses what we cannot replay any more, the seq it expects."""
        worker = (record.worker_id, record.worker_name)
        self._stop(record, give_back=give_back)
        if seq is not None:
            record.outbox, record.next_seq = Outbox(begins=seq), seq
        self.deliver(record, replies.error(record.id, record.next_seq, problem, worker))
        self._end(record, Outcome.FAILED, now, code=problem.code)

    def cut(self, record: JobRecord, now: float) -> None:
        """End a job that has more to say than the API takes and we can keep. What was sent stays good."""
        problem = problems.TOO_SLOW if self.linked else problems.TRIMMED
        self.fail(record, problem, now, seq=record.outbox.next_unsent if record.outbox.unsent else None)

    def cancel(self, record: JobRecord, now: float) -> None:
        """Nobody reads the answer: stop it where it is. Nothing more is sent for it."""
        self._stop(record)
        record.outbox = Outbox()
        self._end(record, Outcome.CANCELLED, now)

    def freed(self, record: JobRecord) -> None:
        """The worker of an ended job has freed its slot."""
        self.effects += self.loose.freed(record)

    def _end(self, record: JobRecord, outcome: Outcome, now: float, code: str = "") -> None:
        if outcome is Outcome.FINISHED:
            self._drop_slot(record)
        record.outcome = outcome
        if record.loose:
            self.effects += self.loose.add(record, now)
        elif record.remembered and outcome is not Outcome.FINISHED:
            self.effects.append(Forget(record.id))
        if record.frame.laid:
            self.effects.append(DropBlobs(record.id, keys.blobs(record.id)))
        fields = {"code": code} if code else {}
        move(record, JobState.ENDED, outcome=str(outcome), worker_id=record.worker_id, **fields)
        self.hooks.ended(record, code, now)
        self.jobs.retire(record, now)

    def _forgotten(self, record: JobRecord) -> None:
        """A finished job stays written down until the API has all of it: should link and bridge go at once, what a
        successor reads in the replay stream is the only copy. Other ends it could not read there."""
        if record.remembered and record.outcome is Outcome.FINISHED:
            self.effects.append(Forget(record.id))

    # ---------------------------------------------------------------- its slot

    def _stop(self, record: JobRecord, *, give_back: bool = False) -> None:
        """End the attempt in Redis and on the worker. `give_back`: its worker may be unable to free the slot."""
        if record.state is JobState.WAITING:
            self.scheduler.remove(record.id)
            return
        worker_frees = not give_back and self.fleet.get(record.worker_id) is not None
        self.effects += stopping.stop(record, worker_frees=worker_frees)
        self._drop_slot(record)

    def _drop_slot(self, record: JobRecord) -> None:
        self.fleet.drop(record.id)
        self.scheduler.settled(record.frame.tenant)
