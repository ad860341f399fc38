"""A tracer whose spans stay here, to be looked at."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tasks.tracing_sdk import SdkTracer

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"00-{TRACE}-{PARENT}-00"


class Traced:
    def __init__(self, part: str = "test") -> None:
        self._kept = InMemorySpanExporter()
        self.tracer = SdkTracer(SimpleSpanProcessor(self._kept), part, "w1")

    @property
    def spans(self) -> list[ReadableSpan]:
        """Those that ended, in the order in which they did."""
        return list(self._kept.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def of(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def the(self, name: str) -> ReadableSpan:
        (span,) = self.of(name)
        return span

    @property
    def text(self) -> str:
        """All that they say, as one text."""
        return "".join(span.to_json() for span in self.spans)


def facts(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def lies_in(inner: ReadableSpan, outer: ReadableSpan) -> bool:
    return inner.parent is not None and inner.parent.span_id == outer.context.span_id
