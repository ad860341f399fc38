"""What a measurement ran on, and what processes used of it."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


def facts() -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds so far, by part. `machine` is everything that ran, ours or not; `at` is monotonic."""

    at: float
    parts: dict[str, float]
    machine: float

    def since(self, before: Cpu) -> dict[str, float]:
        """Cores used by each part between the two looks; `machine` is the share of all cores, 0–1."""
        seconds = max(self.at - before.at, 1e-9)
        cores = {name: (used - before.parts[name]) / seconds for name, used in self.parts.items()}
        return cores | {"machine": (self.machine - before.machine) / seconds / (os.cpu_count() or 1)}


def used(parts: dict[str, list[int]]) -> Cpu:
    """`parts`: process ids by name."""
    spent = {name: sum(_seconds(pid) for pid in pids) for name, pids in parts.items()}
    times = psutil.cpu_times()
    busy = sum(times) - times.idle - getattr(times, "iowait", 0.0)
    return Cpu(time.monotonic(), spent, busy)


def rss_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 2**20)


def _seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
