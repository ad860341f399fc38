"""Turns what becomes of requests into spans (docs/traces.md): pure but for the tracer.

    pendra.bridge.job ─┬─ pendra.bridge.queue     from its arrival, or the loss of an attempt, to a slot in sight
                       └─ pendra.bridge.attempt   until the reply is whole or the worker lost; holds the worker's span

A bridge that adopts a dead one's jobs tells of them from then on, in the same trace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge.hooks import NoHooks
from bridge.jobs import JobRecord, Outcome
from tasks.contract import Finished, Usage
from tasks.tracing import Fact, Facts, Span, Tracer, facts_of, facts_of_usage

JOB, QUEUE, ATTEMPT = "pendra.bridge.job", "pendra.bridge.queue", "pendra.bridge.attempt"
CLAIMED, FAILOVER = "claimed", "failover"
SUPERSEDED = "unclaimed"  # nobody took the message, or it was never sent


@dataclass(slots=True)
class _Open:
    job: Span
    waits_since: int | None
    attempt: Span | None = None
    number: int = -1
    usage: Usage | None = None


class Traces(NoHooks):
    """Event loop only. `served`: does a worker have this model? Only then it is named: a client may ask for anything.

    `clock`: nanoseconds since the epoch.
    """

    def __init__(
        self, tracer: Tracer, served: Callable[[str], bool], clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._tracer = tracer
        self._served = served
        self._clock = clock
        self._open: dict[str, _Open] = {}

    def arrived(self, record: JobRecord, now: float) -> None:  # noqa: ARG002  # as the hook is called
        frame = record.frame
        facts = facts_of(frame.kind, record.id) | {Fact.STREAM: frame.stream, Fact.PRIVATE: record.private}
        if self._served(frame.model):
            facts[Fact.MODEL] = frame.model
        job = self._tracer.begin(JOB, record.trace, facts, entry=True)
        record.trace = job.traceparent
        self._open[record.id] = _Open(job, waits_since=self._clock())

    def released(self, record: JobRecord) -> None:
        one = self._open.get(record.id)
        if one is None or one.number == record.attempt:
            return
        self._leave(one, SUPERSEDED)
        facts: Facts = {Fact.REQUEST: record.id, Fact.ATTEMPT: record.attempt}
        if one.waits_since is not None:
            self._tracer.begin(QUEUE, one.job.traceparent, facts, at=one.waits_since).end()
            one.waits_since = None
        one.attempt, one.number = self._tracer.begin(ATTEMPT, one.job.traceparent, facts), record.attempt
        record.trace = one.attempt.traceparent

    def began(self, record: JobRecord, now: float) -> None:  # noqa: ARG002
        one = self._open.get(record.id)
        if one is not None and one.attempt is not None:
            one.attempt.event(CLAIMED, {Fact.WORKER: record.worker_id})

    def lost(self, record: JobRecord, code: str) -> None:
        one = self._open.get(record.id)
        if one is None:
            return
        facts: Facts = {Fact.WORKER: record.worker_id, Fact.ATTEMPT: record.attempt, Fact.CODE: code}
        one.job.event(FAILOVER, facts)
        self._leave(one, code, worker_id=record.worker_id)
        one.waits_since = self._clock()

    def finished(self, record: JobRecord, end: Finished) -> None:
        one = self._open.get(record.id)
        if one is not None:
            one.usage = end.usage

    def ended(self, record: JobRecord, code: str, now: float) -> None:  # noqa: ARG002
        one = self._open.pop(record.id, None)
        if one is None:
            return
        worker_id, outcome = record.worker_id, record.outcome or Outcome.FAILED
        self._leave(one, code, worker_id=worker_id)
        facts = facts_of_usage(one.usage) | {Fact.OUTCOME: str(outcome), Fact.ATTEMPT: record.attempt}
        one.job.end(facts | ({Fact.WORKER: worker_id} if worker_id else {}), error=code)

    def _leave(self, one: _Open, code: str, *, worker_id: str = "") -> None:
        """The attempt is over."""
        attempt, one.attempt = one.attempt, None
        if attempt is not None:
            attempt.end({Fact.WORKER: worker_id} if worker_id else {}, error=code)
