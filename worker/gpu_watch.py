"""Watches the GPUs of this process: figures for the heartbeat, and the end when one falls off the bus.

A lost GPU cannot be computed on again by a process that used it, and llama.cpp may hang or answer nonsense. So the
process says goodbye and ends itself; the fleet goes on with its jobs elsewhere, its siblings on other GPUs notice
nothing, and its supervisor tries it again, which `check` lets happen only when the GPU is back.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from tasks.errors import ConfigError
from tasks.figures import GpuFigures
from tasks.logs import event
from worker import nvml as driver

_LOG = logging.getLogger("pendra.devices")
EX_GPU_LOST = 76
LOOK_S = 2.0
LOST_AFTER = 2  # looks in a row: a driver that is just busy says so once


def named(visible: str | None) -> tuple[str, ...]:
    """The GPUs of a CUDA_VISIBLE_DEVICES; () = none."""
    return tuple(name.strip() for name in (visible or "").split(",") if name.strip())


def check(names: tuple[str, ...], nvml: Any = None) -> None:
    """Raises ConfigError when one of the GPUs does not answer: without it llama.cpp would compute on the CPU."""
    if not names:
        return
    with driver.opened(nvml) as module:
        if module is None:
            raise ConfigError(f"the NVIDIA driver does not answer, and this worker is for the GPU {', '.join(names)}")
        for name in names:
            try:
                driver.figures(module, driver.handle_of(module, name))
            except module.NVMLError as exc:
                raise ConfigError(
                    f"the GPU {name} does not answer ({type(exc).__name__}): see `nvidia-smi` and `dmesg` for Xid "
                    "errors; it may need a reset or a reboot"
                ) from None


class GpuWatch:
    """Looks from `start` to `stop`, on a thread of its own. `lost` is called once, on that thread, before the end."""

    def __init__(
        self,
        names: tuple[str, ...],
        lost: Callable[[], None],
        *,
        nvml: Any = None,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._names = names
        self._lost = lost
        self._end = end
        self._nvml = nvml
        self._failures = 0
        self._figures: tuple[GpuFigures, ...] = ()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu-watch", daemon=True)

    @property
    def figures(self) -> tuple[GpuFigures, ...]:
        """As of the last look. Any thread; does not block."""
        return self._figures

    def start(self) -> None:
        if self._names:
            self._thread.start()

    def stop(self) -> None:
        """Idempotent; does not wait."""
        self._stopping.set()

    def look(self, nvml: Any) -> bool:
        """One look. True when a GPU has been lost for LOST_AFTER looks."""
        try:
            self._figures = tuple(driver.figures(nvml, driver.handle_of(nvml, name)) for name in self._names)
        except nvml.NVMLError as exc:
            if not driver.is_lost(nvml, exc):
                return False
            self._failures += 1
            return self._failures >= LOST_AFTER
        self._failures = 0
        return False

    def _run(self) -> None:
        with driver.opened(self._nvml or importlib.import_module("pynvml")) as nvml:
            while nvml is not None and not self._stopping.is_set():
                if self.look(nvml):
                    self._give_up()
                    return
                self._stopping.wait(LOOK_S)

    def _give_up(self) -> None:
        event(_LOG, logging.CRITICAL, "gpu.lost", gpus=", ".join(self._names), hint="see dmesg for Xid errors")
        try:
            self._lost()
        finally:
            self._end(EX_GPU_LOST)
