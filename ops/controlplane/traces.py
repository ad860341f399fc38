"""The span of one HTTP request for a worker (docs/traces.md), as a child of the client's, if it names one."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from ops.controlplane.errors import Problem
from ops.controlplane.jobs import Job, JobState
from tasks.contract import JobKind
from tasks.tracing import HEADER, Fact, Facts, Tracer, context_of, facts_of, facts_of_usage

REQUEST = "pendra.request"
REFUSED = "refused"


class RequestTrace:
    """Made when the request arrives; one of `refused`, `done` and `gone` ends it. Event loop only.

    Of the headers only `traceparent` is read. The model is told of requests that found a bridge which serves it.
    """

    def __init__(self, tracer: Tracer, headers: Mapping[str, str], kind: JobKind, request_id: str) -> None:
        parent = context_of(headers.get(HEADER))
        self._span = tracer.begin(REQUEST, parent, facts_of(kind, request_id), entry=True)

    @property
    def traceparent(self) -> str:
        return self._span.traceparent

    def refused(self, problem: Problem) -> None:
        """No bridge was asked."""
        # as the conventions for HTTP servers have it, what the client did wrong is no error of ours
        error = problem.code if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else ""
        facts: Facts = {Fact.OUTCOME: REFUSED, Fact.STATUS: problem.status, Fact.CODE: problem.code}
        self._span.end(facts, error=error)

    def gone(self) -> None:
        """The client left before its request was whole."""
        self._span.end({Fact.OUTCOME: str(JobState.CANCELLED)})

    def done(self, job: Job) -> None:
        said: Facts = {
            Fact.MODEL: job.ask.model,
            Fact.STREAM: job.ask.stream,
            Fact.PRIVATE: job.ask.sealed,
            Fact.OUTCOME: str(job.state),
        }
        worker: Facts = {Fact.WORKER: job.worker_id} if job.worker_id else {}
        self._span.end({**facts_of_usage(job.usage), **said, **worker}, error=job.code)
