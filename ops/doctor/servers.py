"""Ollama, vLLM, LM Studio and Speaches, as the proxy worker of this host would find them."""

from __future__ import annotations

from ops.backends import looked
from ops.doctor.verdict import Verdict, failed, ok, skipped, warning
from tasks.contract import BackendReport, BackendState
from tasks.settings import Settings

CHECK = "backends"


def look(settings: Settings) -> list[Verdict]:
    return judge(looked(settings).backends)


def judge(reports: tuple[BackendReport, ...]) -> list[Verdict]:
    """One that nobody configured and that is not there is no fault."""
    out = [verdict for report in reports if (verdict := _judge(report)) is not None]
    return out or [skipped(CHECK, "no external server is configured or found")]


def _judge(report: BackendReport) -> Verdict | None:
    name = f"{report.product} at {report.url}" if report.url else report.product
    if report.state is BackendState.FOUND:
        found = f"{name} {report.version}".rstrip() + f" serves {len(report.models)} models"
        return (
            warning(CHECK, f"{found}, but: {report.why}", "see docs/backends.md") if report.why else ok(CHECK, found)
        )
    if report.state is BackendState.HELD:
        return warning(CHECK, f"{name} is not offered: {report.why}", "look at its log: it comes and goes")
    if report.state is BackendState.OFF or not report.configured:
        return None
    fix = f"start it, correct {report.product.upper()}_ENDPOINT, or set that to `off`"
    return failed(CHECK, f"{name}: {report.why or 'it does not answer'}", fix)
