"""How long the threads of this process had to wait for a CPU.

Source: the second number of `/proc/self/task/*/schedstat` (Linux, Documentation/scheduler/sched-stats.rst): the
nanoseconds a thread that could run did not. Without that file nobody is known to have waited.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

TASKS = Path("/proc/self/task")


class Starvation:
    """Not thread-safe: one caller. It reads a small file for each thread."""

    def __init__(self, tasks: Path = TASKS, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._tasks = tasks
        self._clock = clock
        self._at = clock()
        self._waited: dict[str, int] = {}

    def share(self) -> float:
        """Of the time since the last call, the share for which the thread that waited most waited: 0–1."""
        before, began = self._waited, self._at
        self._waited, self._at = self._read(), self._clock()
        most = max((ns - before[name] for name, ns in self._waited.items() if name in before), default=0)
        return min(1.0, most / max(1, self._at - began))

    def _read(self) -> dict[str, int]:
        return {path.parent.name: ns for path in self._tasks.glob("*/schedstat") if (ns := _waited(path)) is not None}


def _waited(path: Path) -> int | None:
    """None when the thread has ended meanwhile, or the file is another one than we know."""
    try:
        return int(path.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
