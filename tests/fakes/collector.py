"""An OpenTelemetry collector: takes traces over OTLP/HTTP and keeps the bytes."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


class Collector:
    """A context manager; `paths` and `bodies` are what was posted, unpacked."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.headers: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                packed = self.headers.get("content-encoding") == "gzip"
                collector.paths.append(self.path)
                collector.headers.append(str(self.headers))
                collector.bodies.append(gzip.decompress(body) if packed else body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        return Handler

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Nobody listens any more. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _resources(self) -> Iterator[ResourceSpans]:
        for body in list(self.bodies):
            yield from ExportTraceServiceRequest.FromString(body).resource_spans

    def spans(self, service: str = "") -> list[Span]:
        """Those of one service, or all."""
        return [
            span
            for resource in self._resources()
            if service in {"", _service(resource)}
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def services(self) -> set[str]:
        return {_service(resource) for resource in self._resources()}


def _service(resource: ResourceSpans) -> str:
    return str(attributes(resource.resource)["service.name"])


def attributes(holder: object) -> dict[str, str | int | bool]:
    """Of a span, an event or a resource."""
    pairs = getattr(holder, "attributes", ())
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
