"""The proxy worker of a host: a Celery worker without a GPU that passes jobs on to the servers that run there.

`python -m worker.proxy`. All but the runtime is what a GPU worker is made of: claims, replies, heartbeat, drain.
"""

from __future__ import annotations

import sys

from tasks.contract import WorkerInfo
from tasks.errors import ConfigError
from tasks.settings import Settings
from worker.capacity import MAX_SLOTS
from worker.process import EX_CONFIG, Process, run
from worker.proxy_runtime import ProxyRuntime

ROLE = "proxy"
SLOTS = 32  # threads that wait; each server gets PENDRA_BACKEND_LIMIT requests at once


class ProxyProcess(Process):
    """A serving process that says what it found."""

    def info(self) -> WorkerInfo:
        found = self.runtime.reports() if isinstance(self.runtime, ProxyRuntime) else ()
        return super().info().model_copy(update={"role": ROLE, "backends": found, "engines": ()})


def build(settings: Settings, asked_slots: int | None = None) -> ProxyProcess:
    """Raises ConfigError for settings that cannot be used."""
    return ProxyProcess(settings, min(asked_slots or settings.max_concurrent or SLOTS, MAX_SLOTS), ProxyRuntime)


def main() -> int:
    """Start the proxy worker and block until it has ended. Returns the exit code."""
    from tasks import app  # noqa: PLC0415  # reads the settings

    return run(app, build=build)


def _entry() -> int:
    # run as a script this file is `__main__`; there must be one ProxyProcess
    from worker.proxy import main as entry  # noqa: PLC0415

    try:
        return entry()
    except ConfigError as exc:
        sys.stderr.write(f"proxy worker: {exc.message}\n")
        return EX_CONFIG


if __name__ == "__main__":
    sys.exit(_entry())
