"""How much memory is free where this process computes: on its GPU, or in main memory within its container's limit."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import psutil

from tasks.errors import WorkerError
from tasks.settings import Settings

_CGROUP = Path("/sys/fs/cgroup")


def on_cpu(settings: Settings) -> bool:
    """Whether models of this process live in main memory."""
    return not settings.device.startswith("gpu") or settings.n_gpu_layers == 0


def free_bytes(settings: Settings) -> int:
    """Free memory of this process's device. Raises WorkerError when the GPU cannot be asked."""
    return main_memory() if on_cpu(settings) else gpu_memory(os.environ.get("CUDA_VISIBLE_DEVICES"))


def main_memory(cgroup: Path = _CGROUP) -> int:
    """Free main memory: of the machine, or what a container's limit leaves (cgroup v2), whichever is less."""
    free = int(psutil.virtual_memory().available)
    left = _container_left(cgroup)
    return free if left is None else min(free, left)


def gpu_memory(visible: str | None, nvml: Any = None) -> int:
    """Free memory of the first visible GPU. `visible` is CUDA_VISIBLE_DEVICES: numbers or UUIDs, None = all."""
    nvml = nvml or importlib.import_module("pynvml")
    first = (visible or "0").split(",")[0].strip()
    try:
        nvml.nvmlInit()
        try:
            handle = (
                nvml.nvmlDeviceGetHandleByIndex(int(first))
                if first.isdecimal()
                else nvml.nvmlDeviceGetHandleByUUID(first)
            )
            return int(nvml.nvmlDeviceGetMemoryInfo(handle).free)
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as exc:
        message = f"the GPU does not say how much memory is free ({type(exc).__name__})"
        raise WorkerError(message, code="model_load_failed") from None


def _container_left(cgroup: Path) -> int | None:
    """None = no limit. Cached file pages count as free: the kernel drops them when memory is short."""
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = int((cgroup / "memory.current").read_text())
        cached = _stat(cgroup / "memory.stat", "inactive_file")
        return max(0, int(limit) - used + cached)
    except (OSError, ValueError):
        return None


def _stat(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
