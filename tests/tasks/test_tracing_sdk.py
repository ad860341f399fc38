"""A collector that is away or slow: spans are lost, seldom told of, and nothing waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from tasks import tracing_sdk
from tasks.tracing_sdk import Exporter, SdkTracer
from tests.fakes.collector import Collector

WELL, BADLY = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


class Inner(SpanExporter):
    """Answers as it is told; "raises" raises."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def export(self, spans):
        answer = self.answers.pop(0)
        if answer == "raises":
            raise OSError("http://user:hunter2@collector")
        return answer


def test_failures_are_told_once_a_minute_and_their_end_once(caplog):
    caplog.set_level("INFO")
    times = iter([0.0, 10.0, 61.0])
    exporter = Exporter(Inner(BADLY, "raises", BADLY, WELL, WELL), lambda: next(times))
    assert [exporter.export([None]) for _ in range(5)] == [BADLY, BADLY, BADLY, WELL, WELL]
    assert [record.getMessage() for record in caplog.records] == [
        "traces.not_exported spans_lost=1",
        "traces.not_exported spans_lost=3",
        "traces.exported_again spans_lost=3",
    ]


class Stuck(SpanExporter):
    """A collector that takes the connection and says nothing."""

    def __init__(self) -> None:
        self.entered, self.free = threading.Event(), threading.Event()

    def export(self, spans):
        self.entered.set()
        self.free.wait()
        return WELL


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    made = Stuck()
    yield made
    made.free.set()


def test_a_collector_that_hangs_holds_nobody_up(stuck, monkeypatch):
    monkeypatch.setattr(tracing_sdk, "FLUSH_S", 0.05)
    tracer = SdkTracer(BatchSpanProcessor(stuck, max_queue_size=8, max_export_batch_size=1), "test")
    for _ in range(50):  # more than there is room for
        tracer.begin("x", "").end()
    assert stuck.entered.wait(10)
    tracer.close()
    assert not stuck.free.is_set()  # it hangs still, and we are here


def test_the_end_sends_what_is_left(monkeypatch):
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracer = tracing_sdk.tracer_of("test", "w1")
        tracer.begin("x", "").end()
        tracer.close()
        assert [span.name for span in collector.spans()] == ["x"]
        assert collector.services() == {"pendra-test"}


def test_a_collector_that_is_not_there_is_told_of_without_its_address(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@127.0.0.1:9")
    tracer = tracing_sdk.tracer_of("test")
    tracer.begin("x", "").end()
    tracer.close()
    assert "hunter2" not in caplog.text
