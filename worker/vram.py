"""Who holds memory of our GPUs before we start: strangers, and workers of ours that outlived their supervisor.

A worker dies with its supervisor (`worker.tether`), so one that is there while none runs is an orphan, most likely
stuck in the driver. Nobody is ended here: an operator decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import psutil

from tasks.logs import event
from worker import nvml as driver
from worker.nvml import Gpu, Holder

_LOG = logging.getLogger("pendra.devices")
_OURS = ("worker.process", "worker.program")


@dataclass(frozen=True, slots=True)
class Process:
    """A process by name. `argv` is looked at and never told: a command line may hold secrets."""

    name: str
    argv: tuple[str, ...] = ()
    parent: tuple[str, ...] = ()

    @property
    def orphan(self) -> bool:
        """A worker of ours without a `pendra` above it."""
        ours = any(part in _OURS for part in self.argv)
        return ours and not any("ops.cli" in part or "pendra" in part or "tether" in part for part in self.parent)


@dataclass(frozen=True, slots=True)
class Held:
    """Memory that somebody holds on a GPU. `name`: of the process; "" = not visible from here (another container)."""

    gpu: str
    pid: int
    used: int | None
    name: str = ""
    orphan: bool = False

    @property
    def words(self) -> str:
        size = "memory" if self.used is None else f"{self.used // 1024**2} MiB"
        who = self.name or "a process that cannot be seen from here"
        held = f"{self.gpu}: {size} held by process {self.pid}"
        if self.orphan:
            return f"{held}, a worker whose supervisor died; end it: kill {self.pid}"
        return f"{held} ({who})"


def held(gpus: Iterable[Gpu], nvml: Any = None, find: Callable[[int], Process | None] | None = None) -> list[Held]:
    """Everybody with memory on these GPUs, the orphans first. [] where there is no driver. Blocking."""
    labels = {gpu.uuid: gpu.label for gpu in gpus}
    with driver.opened(nvml) as module:
        if module is None:
            return []
        try:
            rows = driver.holders(module, tuple(labels))
        except module.NVMLError as exc:
            event(_LOG, logging.WARNING, "devices.holders_unknown", error=type(exc).__name__)
            return []
    found = [_named(row, labels[row.uuid], (find or process_of)(row.pid)) for row in rows]
    return sorted(found, key=lambda one: (not one.orphan, one.gpu, one.pid))


def tell(rows: Iterable[Held]) -> None:
    """Log each; an orphan as a warning."""
    for row in rows:
        level = logging.WARNING if row.orphan else logging.INFO
        action = "devices.orphan" if row.orphan else "devices.memory_held"
        event(_LOG, level, action, gpu=row.gpu, pid=row.pid, name=row.name, mib=(row.used or 0) // 1024**2)


def process_of(pid: int) -> Process | None:
    """None when there is no such process here, or it may not be looked at."""
    try:
        found = psutil.Process(pid)
        parent = found.parent()
        return Process(found.name(), tuple(found.cmdline()), tuple(parent.cmdline()) if parent else ())
    except psutil.Error:
        return None


def _named(row: Holder, gpu: str, process: Process | None) -> Held:
    name, orphan = (process.name, process.orphan) if process else ("", False)
    return Held(gpu, row.pid, row.used, name, orphan)
