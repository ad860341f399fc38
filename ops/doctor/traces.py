"""Traces that were asked for: can they be sent, and does the collector take them?"""

from __future__ import annotations

from ops.doctor.verdict import Verdict, ok, skipped, warning
from tasks import tracing

CHECK = "traces"
LIMIT_S = 5.0
_LOOK = "look at OTEL_EXPORTER_OTLP_ENDPOINT (HTTP, port 4318), its certificate and headers; docs/traces.md"


def look() -> list[Verdict]:
    """Blocks for `LIMIT_S` at most. Requests are served whatever it says, so nothing here is a failure."""
    why = tracing.hindrance()
    if why == "":
        return [skipped(CHECK, "no endpoint is set (OTEL_EXPORTER_OTLP_ENDPOINT): none are sent")]
    if why is not None:
        return [warning(CHECK, "traces are asked for and not sent", why)]
    from tasks.tracing_sdk import answers

    try:
        taken = answers(LIMIT_S)
    except Exception as exc:  # noqa: BLE001  # whatever the environment holds; its words may hold a password
        return [warning(CHECK, f"the OTEL_ settings cannot be used ({type(exc).__name__})", _LOOK)]
    return [ok(CHECK, "the collector takes them") if taken else warning(CHECK, "the collector takes none", _LOOK)]
