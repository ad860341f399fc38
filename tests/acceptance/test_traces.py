"""`pendra up` with an OpenTelemetry collector: one trace for a request over three processes, nothing of its content.

The tests share one stack, in this order: the last one is without a collector.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pendra
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.acceptance.canaries import Canaries, found
from tests.acceptance.stack import MODEL, Stack, eventually, running
from tests.fakes.collector import Collector, attributes
from tests.fakes.traced import PARENT, SAMPLED, TRACE, UNSAMPLED

API, BRIDGE, WORKER = "pendra-controlplane", "pendra-bridge", "pendra-worker"
LOST = "traces.not_exported"
MAYBE = {"pendra.worker.load"}  # a first request may come before the model is in memory


class Traced:
    """A stack and its collector."""

    def __init__(self, stack: Stack, collector: Collector) -> None:
        self.stack, self.collector = stack, collector
        self.canaries = Canaries()
        self.said: list[str] = []
        """Every reply's text."""

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.stack.key}"}
        return httpx.Client(base_url=self.stack.url, headers=headers, timeout=120)

    def stream(self, path: str, **headers: str) -> str:
        """A streamed chat about a canary; the id of the request."""
        body = {
            "model": MODEL,
            "stream": True,
            "temperature": 0,
            "max_tokens": 12,
            "messages": self.canaries.asking(path),
        }
        with self.client() as client:
            reply = client.post("/v1/chat/completions", json=body, headers=headers)
        assert reply.status_code == 200, reply.text
        lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line.startswith("data: {")]
        choices = [choice for line in lines for choice in json.loads(line).get("choices", ())]
        self.said.append("".join(choice["delta"].get("content") or "" for choice in choices))
        assert self.said[-1]
        return str(reply.headers["x-request-id"])

    def trace(self, request_id: str) -> list[Span]:
        """The request's spans, once those of all three processes are here."""

        def look() -> list[Span]:
            spans = self.collector.spans()
            first = [span for span in spans if attributes(span).get("pendra.request.id") == request_id]
            mine = [span for span in spans if first and span.trace_id == first[0].trace_id]
            names = {span.name for span in mine}
            return mine if {"pendra.request", "pendra.bridge.job", f"chat {MODEL}"} <= names else []

        return eventually(look, 30.0)


@pytest.fixture(scope="module")
def traced(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    with pytest.MonkeyPatch.context() as patch, Collector() as collector:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        patch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        stack = Stack(tmp_path_factory.mktemp("traced"), models_dir, args=("--workers", "1", "--slots", "4"))
        with running(stack) as up:
            yield Traced(up, collector)


def the(spans: list[Span], name: str) -> Span:
    (span,) = [span for span in spans if span.name == name]
    return span


def services_of(traced: Traced, spans: list[Span]) -> dict[str, set[str]]:
    ids = {span.span_id for span in spans}
    return {
        service: {span.name for span in traced.collector.spans(service) if span.span_id in ids} - MAYBE
        for service in (API, BRIDGE, WORKER)
    }


def test_one_trace_over_three_processes(traced: Traced) -> None:
    request_id = traced.stream("stream", traceparent=SAMPLED)
    spans = traced.trace(request_id)
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert services_of(traced, spans) == {
        API: {"pendra.request"},
        BRIDGE: {"pendra.bridge.job", "pendra.bridge.queue", "pendra.bridge.attempt"},
        WORKER: {f"chat {MODEL}", "pendra.worker.queue", "pendra.worker.prefill", "pendra.worker.decode"},
    }
    request, job, work = the(spans, "pendra.request"), the(spans, "pendra.bridge.job"), the(spans, f"chat {MODEL}")
    attempt = the(spans, "pendra.bridge.attempt")
    assert request.parent_span_id.hex() == PARENT
    assert job.parent_span_id == request.span_id
    assert the(spans, "pendra.bridge.queue").parent_span_id == attempt.parent_span_id == job.span_id
    assert work.parent_span_id == attempt.span_id
    for phase in ("queue", "prefill", "decode"):
        assert the(spans, f"pendra.worker.{phase}").parent_span_id == work.span_id
    counted = [attributes(span) for span in (request, job, work)]
    assert {said["gen_ai.usage.output_tokens"] for said in counted} == {12}
    assert len({said["gen_ai.usage.input_tokens"] for said in counted}) == 1
    assert {said["pendra.outcome"] for said in counted} == {"finished"}


def test_a_request_without_a_trace_gets_one(traced: Traced) -> None:
    spans = traced.trace(traced.stream("untraced"))
    assert the(spans, "pendra.request").parent_span_id == b""
    assert {span.trace_id.hex() for span in spans} != {TRACE}


def test_what_the_client_does_not_sample_is_not_sent(traced: Traced) -> None:
    silent = traced.stream("unsampled", traceparent=UNSAMPLED)
    assert traced.trace(traced.stream("after"))
    assert silent not in {attributes(span).get("pendra.request.id") for span in traced.collector.spans()}


def test_a_private_request(traced: Traced, tmp_path: Path) -> None:
    options = {"tofu_path": str(tmp_path / "known.json")}
    key, url = traced.stack.key, traced.stack.url
    with pendra.Pendra(api_key=key, base_url=url, private_inference=options) as client:
        reply = client.chat.completions.create(
            model=MODEL, messages=traced.canaries.asking("private"), temperature=0, max_tokens=8
        )
    traced.said.append(reply.choices[0].message.content)

    def sealed() -> set[str]:
        spans = traced.collector.spans()
        return {span.name for span in spans if attributes(span).get("pendra.private") is True}

    wanted = {"pendra.request", "pendra.bridge.job", f"chat {MODEL}"}
    assert eventually(lambda: sealed() >= wanted, 30.0), sealed()


def test_nothing_of_a_request_is_in_what_the_collector_got(traced: Traced) -> None:
    """After all that was asked: prompts, replies and the key, in any coding."""
    traced.canaries.keep("api key", traced.stack.key.encode())
    traced.canaries.keep("header", b"header-of-the-client")
    traced.trace(traced.stream("last", **{"x-note": "header-of-the-client"}))
    for number, text in enumerate(traced.said):
        traced.canaries.keep(f"reply {number}", text.encode())
        traced.canaries.keep(f"words of reply {number}", " ".join(text.split()[:3]).encode())
    got = b"".join(traced.collector.bodies)
    assert set(traced.collector.paths) == {"/v1/traces"}
    assert len(traced.said) >= 5
    assert b"pendra.request" in got
    assert found(traced.canaries.all, [("spans", got), ("headers", "".join(traced.collector.headers).encode())]) == []


def test_without_its_collector_everything_goes_on(traced: Traced) -> None:
    traced.collector.stop()
    traced.stream("dead", traceparent=SAMPLED)
    logs = [traced.stack.home / "logs" / f"{name}.log" for name in ("controlplane", "bridge", "worker-cpu0")]
    assert eventually(lambda: all(LOST in log.read_text() for log in logs), 30.0)
    traced.stream("told")
    assert [log.read_text().count(LOST) for log in logs] == [1, 1, 1]
    assert traced.stack.stop() == 0
    assert not found(traced.canaries.all, [(log.name, log.read_bytes()) for log in logs])
