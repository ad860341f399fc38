"""Traces of requests, from the API to the decode step, for OpenTelemetry; off unless its environment says otherwise.

This module is what the code of requests sees: spans, the W3C trace context that joins them
(`00-<trace>-<span>-<flags>`, https://www.w3.org/TR/trace-context/), and the one list of what a span may say. It
imports nothing of OpenTelemetry: `tasks.tracing_sdk` does, and only a process that exports loads it (extra `otel`).

**Content-free**: a span's facts are keyed by `Fact`, so that what is not on that list cannot be said. No exception is
recorded, only its stable code; of a client's headers only `traceparent` is read.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from typing import Protocol

from tasks.contract import JobKind, Usage
from tasks.logs import event

log = logging.getLogger("pendra.traces")

HEADER = "traceparent"
PROVIDER_NAME = "pendra"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"
_PARTS = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
_MISSING = "OpenTelemetry is not installed: pip install 'pendra-worker[otel]', or unset the endpoint"
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_LONGEST_HEADER = 512


class Fact(StrEnum):
    """All that a span may say; `gen_ai.*`, `error.type` and `http.*` as the semantic conventions have them."""

    REQUEST = "pendra.request.id"
    KIND = "pendra.kind"
    PRIVATE = "pendra.private"
    OUTCOME = "pendra.outcome"
    WORKER = "pendra.worker.id"
    ATTEMPT = "pendra.attempt"
    OPERATION = "gen_ai.operation.name"
    PROVIDER = "gen_ai.provider.name"
    MODEL = "gen_ai.request.model"
    STREAM = "gen_ai.request.stream"
    INPUT_TOKENS = "gen_ai.usage.input_tokens"
    OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
    CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
    REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
    STATUS = "http.response.status_code"
    CODE = "error.type"


Facts = Mapping[Fact, str | int | bool]
NOTHING: Facts = {}


class Span(Protocol):
    """Any thread; nothing here blocks or raises."""

    @property
    def traceparent(self) -> str:
        """What makes another process's span a child of this one; "" = there is no trace."""

    def event(self, name: str, facts: Facts = NOTHING) -> None:
        """Something happened now."""

    def end(self, facts: Facts = NOTHING, *, error: str = "", at: int | None = None) -> None:
        """It is over, now or `at` (nanoseconds since the epoch); `error`: the stable code of what went wrong."""


class Tracer(Protocol):
    """One process's. Any thread; only `close` blocks."""

    def begin(
        self, name: str, parent: str, facts: Facts = NOTHING, *, entry: bool = False, at: int | None = None
    ) -> Span:
        """A span under `parent` (a `traceparent`, "" = a trace of its own).

        `entry`: it is the first of this process. `at`: when it began, nanoseconds since the epoch.
        """

    def close(self) -> None:
        """Send what is left, for a second at most."""


@dataclass(frozen=True, slots=True)
class NoSpan:
    """Nothing is kept here, but a trace that others keep goes on."""

    traceparent: str

    def event(self, name: str, facts: Facts = NOTHING) -> None: ...
    def end(self, facts: Facts = NOTHING, *, error: str = "", at: int | None = None) -> None: ...


class NoTracer:
    def begin(
        self, name: str, parent: str, facts: Facts = NOTHING, *, entry: bool = False, at: int | None = None
    ) -> Span:
        del name, facts, entry, at
        return NoSpan(parent)

    def close(self) -> None: ...


NO_TRACER = NoTracer()


def start(part: str, instance: str = "", environ: MutableMapping[str, str] = os.environ) -> Tracer:
    """This process's tracer, as OpenTelemetry's environment variables say; `NO_TRACER` unless they ask for traces.

    `part` (bridge, worker, …) names the service where the environment does not. What stands in the way of traces that
    were asked for is logged (`traces.off`); it never raises.
    """
    why = hindrance(environ)
    if why is None:
        for name in [name for name, value in environ.items() if name.startswith("OTEL_") and not value.strip()]:
            del environ[name]  # the specification's: empty is unset; the SDK would complain
        try:
            from tasks.tracing_sdk import tracer_of  # noqa: PLC0415  # OpenTelemetry is loaded where it is used

            return tracer_of(part, instance)
        except ImportError:
            why = _MISSING
        except Exception as exc:  # noqa: BLE001  # a bad value in the environment must not stop a worker
            why = f"OpenTelemetry does not take the OTEL_ settings of the environment ({type(exc).__name__})"
    if why:
        event(log, logging.WARNING, "traces.off", why=why)
    return NO_TRACER


def hindrance(environ: Mapping[str, str] = os.environ) -> str | None:
    """As `objection`, and whether the extra is there."""
    why = objection(environ)
    return _missing() if why is None else why


def _missing() -> str | None:
    try:
        for part in _PARTS:
            metadata.version(part)
    except metadata.PackageNotFoundError:
        return _MISSING
    return None


def objection(environ: Mapping[str, str]) -> str | None:
    """Why no traces are sent: "" = nobody asked for them, None = nothing stands against it. Pure."""

    def said(*names: str) -> str:
        return next((value.strip() for name in names if (value := environ.get(name, "")).strip()), "")

    exporter, protocol = said("OTEL_TRACES_EXPORTER") or "otlp", said(*_PROTOCOLS) or _HTTP
    if not said(*_ENDPOINTS) or said("OTEL_SDK_DISABLED").lower() == "true" or exporter == "none":
        return ""
    if exporter != "otlp":
        return "OTEL_TRACES_EXPORTER: only otlp is spoken here"
    if protocol != _HTTP:
        return f"OTEL_EXPORTER_OTLP_PROTOCOL: only {_HTTP} is spoken here (collectors take it on port 4318)"
    return None


def context_of(traceparent: str | None) -> str:
    """A peer's trace context in version 00; "" for none, and for one that is not well-formed. Pure."""
    if not traceparent or len(traceparent) > _LONGEST_HEADER:
        return ""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None or (found[1] == "00" and found[5]):
        return ""
    return f"00-{found[2]}-{found[3]}-{found[4]}"


def operation_of(kind: JobKind) -> str:
    """As `gen_ai.operation.name` has it, where it has a name for it."""
    return "text_completion" if kind is JobKind.COMPLETION else str(kind)


def facts_of(kind: JobKind, request_id: str) -> dict[Fact, str | int | bool]:
    """What all three processes say of a request."""
    return {
        Fact.REQUEST: request_id,
        Fact.KIND: str(kind),
        Fact.OPERATION: operation_of(kind),
        Fact.PROVIDER: PROVIDER_NAME,
    }


def facts_of_usage(usage: Usage | None) -> dict[Fact, str | int | bool]:
    """Token counts; of a request that has none, nothing."""
    if usage is None or usage == Usage():
        return {}
    return {
        Fact.INPUT_TOKENS: usage.prompt_tokens,
        Fact.OUTPUT_TOKENS: usage.completion_tokens,
        Fact.CACHED_TOKENS: usage.cached_tokens,
        Fact.REASONING_TOKENS: usage.reasoning_tokens,
    }
