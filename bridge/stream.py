"""Events of the workers, each exactly once and in order. Pure.

`(attempt, seq)` of an envelope says what to do before it is even opened: an older attempt or a seq already taken is
dropped; a seq after a hole is dropped too, and the replay stream is asked for everything since. What the stream no
longer has is a gap, and the attempt counts as lost.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bridge import problems, replies
from bridge.effects import Heal
from bridge.jobs import JobRecord, JobState, move
from bridge.ledger import Ledger
from bridge.pictures import finished_words
from bridge.supervision import Due, Timer
from tasks.contract import Chunk, Claimed, Failed, Finished, Progress
from tasks.errors import JobCancelledError, PendraError, SealError
from tasks.events import Envelope, Piece, open_body
from tasks.keys import WORKER_LEASE_S
from tasks.logs import event as log_event
from tasks.sealing import Opener

log = logging.getLogger("pendra.bridge")


class Stream:
    """Takes batches of envelopes and moves the jobs in the ledger on."""

    def __init__(self, ledger: Ledger, opener: Opener) -> None:
        self._ledger = ledger
        self._opener = opener
        self._chunks: list[str] = []
        self._chunked: set[str] = set()
        self._last: list[tuple[JobRecord, Finished | Failed]] = []
        self._missing: set[str] = set()
        self._healing: dict[str, int] = {}
        self._heal_asked = False
        self._to_drain: set[str] = set()
        self._draining: set[str] = set()

    def take(self, batch: Sequence[Envelope], now: float) -> None:
        """One batch: all its chunks leave as one frame (more only when it would be too large)."""
        table = self._ledger.jobs
        for envelope in batch:
            record = table.get(envelope.job_id)
            if record is None:
                continue
            if envelope.attempt != record.attempt or record.state is JobState.ENDED:
                self._stale(record, envelope)
            elif envelope.seq == record.next_seq:
                self._next(record, envelope, now)
            elif envelope.seq > record.next_seq:
                self._hole(record, envelope.seq)
        self._flush()
        self._finish(now)

    def _next(self, record: JobRecord, envelope: Envelope, now: float) -> None:
        try:
            event = open_body(envelope, self._opener)
        except SealError as problem:
            self._flush()
            self._ledger.fail(record, problem, now)
            return
        if isinstance(event, Piece):
            self._take_tokens(record, event.tokens, now)
            self._say(record, event.data, now)
        elif isinstance(event, Chunk):
            self._chunk(record, event, now)
        elif isinstance(event, Finished | Failed):
            self._last.append((record, event))
        else:
            self._moved(record, event, now)

    def _chunk(self, record: JobRecord, event: Chunk, now: float) -> None:
        if event.step and event.tokens is not None:
            _take_step(record, event)
            self._count(record, 1, now)
        else:
            self._take_tokens(record, event.tokens, now)
        self._say(record, event.data, now)

    def _take_tokens(self, record: JobRecord, tokens: tuple[int, ...] | None, now: float) -> None:
        if tokens is None:
            record.continuable = False
        else:
            record.tokens.extend(tokens)
        self._count(record, 1 if tokens is None else len(tokens), now)

    def _count(self, record: JobRecord, tokens: int, now: float) -> None:
        self._ledger.hooks.said(record, tokens, now)
        self._ledger.pace.said(record.worker_id, tokens)

    def _say(self, record: JobRecord, data: str, now: float) -> None:
        """The next piece of the reply's text."""
        text = replies.chunk_event(record.id, record.next_seq, data)
        passes = self._ledger.flow.passes(record.outbox)
        record.outbox.add((record.next_seq, text, True), sent=passes)
        record.next_seq += 1
        record.streamed = True
        if passes:
            self._chunks.append(text)
            self._chunked.add(record.id)
        else:
            self._held_back(record, now)

    def _held_back(self, record: JobRecord, now: float) -> None:
        """The link is slow or down. More than the outbox may hold ends the job: now, not after all the work."""
        self._ledger.flow.wait(record)
        if record.outbox.overfull:
            self._flush()
            self._ledger.cut(record, now)

    def _moved(self, record: JobRecord, event: Claimed | Progress, now: float) -> None:
        if record.id in self._chunked:
            self._flush()
        if isinstance(event, Claimed):
            self._claimed(record, event, now)
        else:
            self._ledger.deliver(record, replies.progress(event))

    def _finish(self, now: float) -> None:
        """The batch's ends, after its chunks. Nothing follows an end, so putting it off changes no job's order."""
        for record, event in self._last:
            if record.state is JobState.ENDED or (event.attempt, event.seq) != (record.attempt, record.next_seq):
                continue
            record.stopped = record.attempt
            if isinstance(event, Finished):
                self._ledger.finish(record, event, now)
            else:
                self._failed(record, event, now)
        self._last.clear()

    def _claimed(self, record: JobRecord, event: Claimed, now: float) -> None:
        record.worker_id, record.worker_name, record.epoch = event.worker_id, event.worker_name, event.epoch
        if record.state is JobState.FENCING:
            self._ledger.deliver(record, replies.claimed(event))
            return
        if record.state is JobState.DISPATCHED:
            move(record, JobState.RUNNING, worker_id=event.worker_id)
            self._ledger.timers.claims.heard(record.dispatched, now)
        self._ledger.hooks.began(record, now)
        fleet = self._ledger.fleet
        fleet.hold(record.id, event.worker_id, record.frame.model)
        self._ledger.scheduler.affinity.ran(record.frame.tenant, record.frame.affinity, event.worker_id)
        if not fleet.has(event.worker_id, event.epoch):  # no lease of its would ever lapse
            unseen = Timer(record.id, Due.UNSEEN, record.attempt)
            self._ledger.timers.set(now + WORKER_LEASE_S, unseen)
        self._ledger.deliver(record, replies.claimed(event))

    def _failed(self, record: JobRecord, event: Failed, now: float) -> None:
        words = finished_words(event, self._ledger.fleet)
        problem = PendraError(words, code=event.code, param=event.param)
        given_back = event.code == JobCancelledError.default_code  # a predecessor wanted it to run elsewhere
        if (event.retryable or given_back) and record.state is JobState.FENCING:
            return  # it is being taken elsewhere already
        if given_back or (event.retryable and event.code == problems.DRAINING.code):
            self._ledger.hand_over(record, problem, now)
        elif event.retryable:
            self._ledger.lose(record, problem, now)
        else:
            self._ledger.fail(record, problem, now)

    def _stale(self, record: JobRecord, envelope: Envelope) -> None:
        if record.loose and envelope.attempt == record.attempt and self._ends(envelope):
            self._ledger.freed(record)
            return
        over = record.state is JobState.ENDED and envelope.seq >= record.next_seq
        if envelope.attempt < record.attempt or (over and envelope.attempt == record.attempt):
            self._ledger.stop_stale(record, envelope.worker_id, envelope.attempt)

    def _ends(self, envelope: Envelope) -> bool:
        try:
            return isinstance(open_body(envelope, self._opener), Finished | Failed)
        except SealError:
            return False

    def _flush(self) -> None:
        if self._chunks:
            for text in replies.chunk_frames(self._chunks):
                self._ledger.send(text)
            self._chunks.clear()
            self._chunked.clear()

    # ---------------------------------------------------------------- holes

    def _hole(self, record: JobRecord, seq: int) -> None:
        record.seen_seq = max(record.seen_seq, seq)
        self._missing.add(record.id)
        if not self._heal_asked:
            log_event(log, logging.WARNING, "events.hole", job_id=record.id, expected=record.next_seq, got=seq)
            self._ask(full=False)

    def _ask(self, *, full: bool) -> None:
        self._heal_asked = True
        self._ledger.effects.append(Heal(full))

    def heal_started(self) -> None:
        """The replay stream is about to be read: what is missing now should be in it."""
        self._heal_asked = True
        self._healing = {r.id: r.seen_seq for r in self._holed(self._missing)}
        self._missing.clear()
        self._draining |= self._to_drain
        self._to_drain.clear()

    def healed(self, *, full: bool, now: float) -> None:
        """The stream was read to its end (`full`: from its beginning). Holes still open are asked again, or lost."""
        self._heal_asked = False
        still = [r for r in self._holed(self._healing) if r.next_seq <= self._healing[r.id]]
        self._healing = {}
        if full:
            for record in still:
                log_event(log, logging.ERROR, "events.gap", job_id=record.id, expected=record.next_seq)
                self._gap(record, now)
            still = []
        self._missing.update(record.id for record in still)
        self._missing = {record.id for record in self._holed(self._missing)}
        self._drained()
        if self._missing:
            self._ask(full=bool(still))

    def _gap(self, record: JobRecord, now: float) -> None:
        """Of a private reply, frames are out that we do not have: nobody may seal others in their place."""
        if record.private:
            self._ledger.fail(record, problems.GAP, now)
        else:
            self._ledger.lose(record, problems.GAP, now)

    # ---------------------------------------------------------------- private jobs whose worker was cut off

    def fenced(self, record: JobRecord) -> None:
        """Nothing more of its attempt can be published: read what was, then another may go on."""
        self._to_drain.add(record.id)
        self._ask(full=False)

    def _drained(self) -> None:
        """The stream was read to its end after these were fenced. One with a hole stays until that is settled."""
        records = [self._ledger.jobs.open.get(job_id) for job_id in self._draining]
        self._draining.clear()
        for record in records:
            if record is None or record.state is not JobState.FENCING:
                continue
            if record.id in self._missing:
                self._draining.add(record.id)
            else:
                self._ledger.fenced_off(record)

    def _holed(self, job_ids: set[str] | dict[str, int]) -> list[JobRecord]:
        records = (self._ledger.jobs.open.get(job_id) for job_id in job_ids)
        return [record for record in records if record is not None and record.seen_seq >= record.next_seq]


def _take_step(record: JobRecord, event: Chunk) -> None:
    """Of a private reply we keep what we cannot read."""
    if event.whole:
        record.steps.clear()
    record.steps.append(event.step)
    record.kid = event.kid
