"""The span of one attempt at a job, and in it what the time went into (docs/traces.md).

    chat smollm2:135m ─┬─ pendra.worker.load      until the model was in memory (none: it was there)
                       ├─ pendra.worker.queue     inside the engine, for a free sequence
                       ├─ pendra.worker.prefill   to the first token
                       └─ pendra.worker.decode    to the last

The phases are made when the job has ended, from the durations the engine measured, one after the other from the
claim on; what lies between them (templates, a round trip) counts as decode. Nothing is done for a single token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.contract import Job, Timing
from tasks.errors import JobCancelledError
from tasks.tracing import Fact, Facts, Tracer, facts_of, facts_of_usage, operation_of
from worker.reply import Closing

LOAD, QUEUE, PREFILL, DECODE = (f"pendra.worker.{name}" for name in ("load", "queue", "prefill", "decode"))
FINISHED, FAILED, CANCELLED = "finished", "failed", "cancelled"
_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Phase:
    """Nanoseconds since the epoch."""

    name: str
    began: int
    ended: int


class JobTrace:
    """Made once the job could be read; `began` is when it was claimed, in nanoseconds since the epoch."""

    def __init__(self, tracer: Tracer, job: Job, worker_id: str, *, private: bool, began: int) -> None:
        self._tracer = tracer
        self._began = began
        said: Facts = {
            Fact.MODEL: job.model,
            Fact.STREAM: job.stream,
            Fact.PRIVATE: private,
            Fact.ATTEMPT: job.attempt,
            Fact.WORKER: worker_id,
        }
        name = f"{operation_of(job.kind)} {job.model}"
        self._span = tracer.begin(
            name, job.traceparent, {**facts_of(job.kind, job.job_id), **said}, entry=True, at=began
        )

    def ended(self, closing: Closing, at: int) -> None:
        for phase in phases(closing.timing, self._began, at) if not closing.code else ():
            self._tracer.begin(phase.name, self._span.traceparent, at=phase.began).end(at=phase.ended)
        cancelled = closing.code == JobCancelledError.default_code
        outcome = CANCELLED if cancelled else FAILED if closing.code else FINISHED
        said: Facts = {Fact.OUTCOME: outcome}
        self._span.end({**facts_of_usage(closing.usage), **said}, error="" if cancelled else closing.code, at=at)


def phases(timing: Timing, began: int, ended: int) -> Iterator[Phase]:
    """What was measured, in order; nothing outlasts the job. Pure."""
    since = began
    measured = ((LOAD, timing.model_load_ms), (QUEUE, timing.worker_queue_wait_ms), (PREFILL, timing.ttft_ms))
    for name, ms in measured:
        if ms:
            until = min(since + round(ms * _NS), ended)
            yield Phase(name, since, until)
            since = until
    if timing.ttft_ms is not None:
        yield Phase(DECODE, since, ended)
