"""One span for an attempt, and what the time went into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from tasks import keys
from tasks.contract import Job, Timing, Usage
from tasks.errors import BadRequestError, JobCancelledError
from tasks.redis_client import connect
from tasks.sealing import FleetKey, Opener, Sealer, payload_aad
from tasks.tracing import Fact
from tests.fakes.traced import PARENT, SAMPLED, TRACE, UNSAMPLED, Traced, facts, lies_in
from worker.private.keys import Keyring
from worker.publisher import Publisher
from worker.running import Running
from worker.serve import Server
from worker.traces import DECODE, LOAD, PREFILL, QUEUE, Phase, phases

KEY = FleetKey(bytes(32))
SECRET = "the-patient"
MS = 1_000_000
TIMING = Timing(ttft_ms=30.0, worker_queue_wait_ms=2.0, model_load_ms=100.0)
NAME = "chat m"


class World:
    """A traced server around a runtime that is one function."""

    def __init__(self, client) -> None:
        self.client = client
        self.traced = Traced("worker")
        self.does = lambda reply: reply.finish(SECRET)
        self.publisher = Publisher(client, "w", Sealer(KEY))
        self.publisher.start()
        ring = Keyring(Path("/nonexistent"))
        self.server = Server(
            client, "w", Opener(KEY), self.publisher, self, Running(), ring, tracer=self.traced.tracer
        )

    def serve(self, job, reply, cancel):
        self.does(reply)

    def run(self, does=None, **fields: Any) -> None:
        self.does = does or self.does
        job = Job(job_id="j", model="m", body={"x": SECRET}, created=0, bridge_id="b", **fields)
        sealed = Sealer(KEY).seal(job.model_dump_json().encode(), payload_aad("j"))
        row = {"payload": sealed, "attempt": 0, "bridge": "b", "deadline": 0, "worker": "", "credit": "w"}
        self.client.hset(keys.job("j"), mapping=row)
        self.server.serve("j", 0)


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    with connect(redis_url) as client:
        world = World(client)
        yield world
        world.publisher.stop()
        assert SECRET not in world.traced.text


def test_a_job_that_goes_well(world):
    usage = Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=4)
    world.run(lambda reply: reply.finish(SECRET, usage=usage, timing=Timing(ttft_ms=0.001)), traceparent=SAMPLED)
    span = world.traced.the(NAME)
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert facts(span) == {
        "pendra.request.id": "j",
        "pendra.kind": "chat",
        "pendra.private": False,
        "pendra.outcome": "finished",
        "pendra.worker.id": "w",
        "pendra.attempt": 0,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "pendra",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": False,
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 0,
    }
    assert world.traced.names == [PREFILL, DECODE, NAME]
    for phase in world.traced.spans[:-1]:
        assert lies_in(phase, span)
        assert span.start_time <= phase.start_time <= phase.end_time <= span.end_time


def raises(error):
    def does(_reply):
        raise error

    return does


@pytest.mark.parametrize(
    ("error", "outcome", "code", "status"),
    [
        (BadRequestError(SECRET, code="context_length_exceeded"), "failed", "context_length_exceeded", "ERROR"),
        (ValueError(SECRET), "failed", "worker_error", "ERROR"),
        (JobCancelledError(SECRET), "cancelled", None, "UNSET"),
    ],
)
def test_of_an_error_only_the_code_is_said(world, error, outcome, code, status):
    world.run(raises(error))
    (span,) = world.traced.spans
    assert (facts(span)[Fact.OUTCOME], facts(span).get(Fact.CODE)) == (outcome, code)
    assert (span.status.status_code, span.status.description, span.events) == (StatusCode[status], None, ())


def test_a_private_job_that_cannot_be_opened_says_no_more_than_others(world):
    world.run(private=True)
    (span,) = world.traced.spans
    assert facts(span)[Fact.PRIVATE] is True
    assert facts(span)[Fact.OUTCOME] == "failed"


def test_what_the_bridge_does_not_sample(world):
    world.run(traceparent=UNSAMPLED)
    assert world.traced.spans == []


def test_phases_follow_one_another():
    assert list(phases(TIMING, 0, 200 * MS)) == [
        Phase(LOAD, 0, 100 * MS),
        Phase(QUEUE, 100 * MS, 102 * MS),
        Phase(PREFILL, 102 * MS, 132 * MS),
        Phase(DECODE, 132 * MS, 200 * MS),
    ]


@pytest.mark.parametrize(
    ("timing", "names"),
    [
        (Timing(), []),
        (Timing(model_load_ms=0.0, worker_queue_wait_ms=1.0), [QUEUE]),
        (Timing(ttft_ms=1.0), [PREFILL, DECODE]),
    ],
)
def test_what_was_not_measured_has_no_phase(timing, names):
    assert [phase.name for phase in phases(timing, 0, 200 * MS)] == names


def test_no_phase_outlasts_the_job():
    assert all(0 <= phase.began <= phase.ended <= 50 * MS for phase in phases(TIMING, 0, 50 * MS))
