"""The only import of OpenTelemetry (extra `otel`): spans to a collector, over OTLP/HTTP, on a thread of the SDK.

A collector that is slow or away costs spans, never a request: what waits is bounded (`OTEL_BSP_MAX_QUEUE_SIZE`), and
it is logged once a minute at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_NAMESPACE,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode

from tasks.logs import event
from tasks.tracing import NOTHING, Fact, Facts, Span, context_of

log = logging.getLogger("pendra.traces")

FLUSH_S = 1.0
TELL_EVERY_S = 60.0
_LONGEST = 256
_SCOPE = "pendra"


def tracer_of(part: str, instance: str = "") -> SdkTracer:
    """A tracer that exports as the environment says. Raises ValueError for values that it does not take."""
    tracer = SdkTracer(BatchSpanProcessor(Exporter(OTLPSpanExporter())), part, instance)
    # its loggers tell of every failed batch, with the collector's address; `Exporter` says what an operator needs
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    event(log, logging.INFO, "traces.on", part=part)
    return tracer


def answers(timeout_s: float) -> bool:
    """Whether the collector of the environment takes spans: it is sent none. Blocks. Raises like `tracer_of`."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    exporter = OTLPSpanExporter(timeout=timeout_s)
    return exporter.export(()) is SpanExportResult.SUCCESS


class SdkTracer:
    """Implements `tasks.tracing.Tracer` on a provider of its own; the global one is left alone."""

    def __init__(self, processor: SpanProcessor, part: str, instance: str = "") -> None:
        self._provider = TracerProvider(resource=_resource(part, instance), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(_SCOPE)

    def begin(
        self, name: str, parent: str, facts: Facts = NOTHING, *, entry: bool = False, at: int | None = None
    ) -> Span:
        kind = SpanKind.SERVER if entry else SpanKind.INTERNAL
        return SdkSpan(
            self._tracer.start_span(name, _context(parent), kind=kind, attributes=_attributes(facts), start_time=at)
        )

    def close(self) -> None:
        """The SDK's own way waits for up to 30 s for a collector; a process that ends does not."""
        last = threading.Thread(target=self._provider.shutdown, name="traces-flush", daemon=True)
        last.start()
        last.join(FLUSH_S)


class SdkSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        ids = self._span.get_span_context()
        return f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{int(ids.trace_flags):02x}"

    def event(self, name: str, facts: Facts = NOTHING) -> None:
        self._span.add_event(name, _attributes(facts))

    def end(self, facts: Facts = NOTHING, *, error: str = "", at: int | None = None) -> None:
        if not self._span.is_recording():  # not sampled, or ended before
            return
        self._span.set_attributes(_attributes(facts))
        if error:
            self._span.set_attributes(_attributes({Fact.CODE: error}))
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(at)


class Exporter(SpanExporter):
    """Passes on to another exporter, and tells of its failures seldom. On the SDK's thread."""

    def __init__(self, inner: SpanExporter, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._clock = clock
        self._lost = 0
        self._told_at: float | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._inner.export(spans)
        except Exception:  # noqa: BLE001  # its words may hold the collector's address and password
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self._went_well()
        else:
            self._failed(len(spans))
        return result

    def _failed(self, spans: int) -> None:
        self._lost += spans
        now = self._clock()
        if self._told_at is None or now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            event(log, logging.WARNING, "traces.not_exported", spans_lost=self._lost)

    def _went_well(self) -> None:
        if self._told_at is not None:
            event(log, logging.INFO, "traces.exported_again", spans_lost=self._lost)
        self._lost, self._told_at = 0, None

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _attributes(facts: Facts) -> dict[str, str | int | bool]:
    """What is not a `Fact` is dropped, whatever a caller without a type checker does."""
    return {
        fact.value: value[:_LONGEST] if isinstance(value, str) else value
        for fact, value in facts.items()
        if isinstance(fact, Fact)
    }


def _context(parent: str) -> Context:
    """An empty one for "": never that of the thread, so that no library's span becomes a parent by accident."""
    known = context_of(parent)
    if not known:
        return Context()
    _, trace_id, span_id, flags = known.split("-")
    remote = trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(remote), Context())


def _resource(part: str, instance: str) -> Resource:
    """Who sends; what the environment says (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`) wins."""
    ours = {SERVICE_NAME: f"pendra-{part}", SERVICE_NAMESPACE: "pendra", "pendra.part": part}
    if instance:
        ours[SERVICE_INSTANCE_ID] = instance
    return Resource.create(ours).merge(OTELResourceDetector().detect())
