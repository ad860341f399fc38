"""Parts of the bridge that follow from its settings."""

from __future__ import annotations

from bridge.admission import Limits
from bridge.metrics.server import MetricsServer
from bridge.metrics.tally import Tally
from bridge.readings import Readings
from tasks.settings import Settings
from tasks.version import version


def limits_of(settings: Settings) -> Limits:
    return Limits(
        waiting=settings.max_waiting,
        of_model=settings.max_waiting_model,
        of_key=settings.max_waiting_key,
        wait_s=settings.max_wait_seconds,
        batch_wait_s=settings.max_wait_batch_seconds,
    )


def metrics_of(settings: Settings, readings: Readings, tally: Tally | None) -> MetricsServer | None:
    """The port that Prometheus asks, None when it is off."""
    if settings.metrics_port is None or tally is None:
        return None
    return MetricsServer(settings.metrics_host, settings.metrics_port, readings, tally, version())
