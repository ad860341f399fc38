"""One span for a request, one for each attempt, one for each wait; the worker's belong to the attempt's."""

from __future__ import annotations

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from bridge.effects import Acquire
from bridge.protocol import Cancel
from bridge.traces import ATTEMPT, JOB, QUEUE, Traces
from tasks.tracing import Fact
from tests.bridge.builders import Driven, chunk, claimed, failed, finished, job, worker
from tests.fakes.traced import PARENT, SAMPLED, TRACE, UNSAMPLED, Traced, facts, lies_in

SECRET = "the patient has a rare disease"


class Watched(Driven):
    def __init__(self, *workers: object) -> None:
        self.traced = Traced()
        super().__init__(*(workers or (worker(),)), hooks=Traces(self.traced.tracer, self.serves))

    def serves(self, model: str) -> bool:
        return self.session.readings.serves(model)

    def acquired(self) -> list[Acquire]:
        return [effect for effect in self.effects if isinstance(effect, Acquire)]


def test_a_request_that_ended_well() -> None:
    driven = Watched()
    driven.start(body={"messages": [SECRET]}, traceparent=SAMPLED)
    driven.events(claimed(), chunk(1, SECRET), finished(2, data=SECRET))
    traced = driven.traced
    whole, queue, attempt = traced.the(JOB), traced.the(QUEUE), traced.the(ATTEMPT)
    assert (whole.kind, f"{whole.parent.span_id:016x}") == (SpanKind.SERVER, PARENT)
    assert {f"{span.context.trace_id:032x}" for span in traced.spans} == {TRACE}
    assert lies_in(queue, whole)
    assert lies_in(attempt, whole)
    assert whole.start_time <= queue.start_time <= queue.end_time <= attempt.end_time <= whole.end_time
    assert facts(whole) == {
        "pendra.request.id": "j1",
        "pendra.kind": "chat",
        "pendra.private": False,
        "pendra.outcome": "finished",
        "pendra.worker.id": "w1",
        "pendra.attempt": 0,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "pendra",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
    }
    assert [event.name for event in attempt.events] == ["claimed"]
    assert SECRET not in traced.text


def test_the_worker_is_told_to_go_on_under_the_attempt() -> None:
    driven = Watched()
    driven.start(traceparent=SAMPLED)
    driven.events(claimed(), finished(1))
    (acquire,) = driven.acquired()
    span = driven.traced.the(ATTEMPT).context
    assert acquire.job.traceparent == f"00-{span.trace_id:032x}-{span.span_id:016x}-01"


def test_a_failover_is_a_second_attempt_in_the_same_trace() -> None:
    driven = Watched(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    driven.events(failed(1, retryable=True))
    first, second = driven.acquired()
    driven.take(second, "w2")
    driven.events(claimed(seq=1, attempt=1, worker_id="w2"), finished(2, attempt=1), worker_id="w2")
    traced = driven.traced
    lost, won = traced.of(ATTEMPT)
    whole = traced.the(JOB)
    assert [facts(span)[Fact.ATTEMPT] for span in (lost, won)] == [0, 1]
    assert [facts(span)[Fact.WORKER] for span in (lost, won)] == ["w1", "w2"]
    assert (facts(lost)[Fact.CODE], lost.status.status_code) == ("out_of_memory", StatusCode.ERROR)
    assert lost.status.description is None
    assert lies_in(lost, whole)
    assert lies_in(won, whole)
    assert len(traced.of(QUEUE)) == 2
    assert [event.name for event in whole.events] == ["failover"]
    assert first.job.traceparent != second.job.traceparent


def test_a_cancelled_request_is_no_error() -> None:
    driven = Watched()
    driven.start()
    driven.send(Cancel(job_id="j1"))
    whole = driven.traced.the(JOB)
    assert facts(whole)[Fact.OUTCOME] == "cancelled"
    assert whole.status.status_code is StatusCode.UNSET
    assert driven.traced.names == [QUEUE, ATTEMPT, JOB]


def test_a_model_that_nobody_has_is_not_named() -> None:
    driven = Watched()
    driven.send(job(model=SECRET))
    whole = driven.traced.the(JOB)
    assert facts(whole)[Fact.CODE] == "model_not_found"
    assert SECRET not in driven.traced.text
    assert driven.traced.names == [JOB]


def test_a_private_request_says_that_it_is_one_and_nothing_else() -> None:
    driven = Watched()
    driven.send(job(kids=("ab" * 32,), body={"pendra_encrypted": {"ciphertext": SECRET}}))
    assert facts(driven.traced.the(JOB))[Fact.PRIVATE] is True
    assert SECRET not in driven.traced.text


def test_what_the_caller_does_not_sample_is_not_kept_but_goes_on() -> None:
    driven = Watched()
    driven.start(traceparent=UNSAMPLED)
    driven.events(claimed(), finished(1))
    assert driven.traced.spans == []
    assert driven.acquired()[0].job.traceparent.startswith(f"00-{TRACE}-")
    assert driven.acquired()[0].job.traceparent.endswith("-00")


@pytest.mark.parametrize(("given", "passed"), [(SAMPLED, SAMPLED), (SECRET, ""), ("", "")])
def test_a_bridge_that_keeps_no_traces_passes_them_on(given, passed) -> None:
    driven = Driven(worker())
    (acquire,) = (effect for effect in driven.send(job(traceparent=given)) if isinstance(effect, Acquire))
    assert acquire.job.traceparent == passed
