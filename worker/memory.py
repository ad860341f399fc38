"""How much memory is free where this process computes: on its GPU, or in main memory within its container's limit."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tasks.errors import WorkerError
from worker import builds
from worker.builds import Build, BuildDevice
from worker.options import Options

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(options: Options) -> int:
    """Free memory of where a model with these options lives. Raises WorkerError when the GPU cannot be asked."""
    if options.cpu:
        return main_memory()
    return together(_devices_memory("free"), options.tensor_split, options.main_gpu)


def whole_bytes(options: Options) -> int | None:
    """The memory there is where a model with these options lives, used or not; None = nobody says."""
    if options.cpu:
        return whole_main_memory()
    try:
        return together(_devices_memory("total"), options.tensor_split, options.main_gpu)
    except WorkerError:
        return None


def whole_main_memory(cgroup: Path = _CGROUP) -> int:
    """The machine's main memory, or its container's limit (cgroup v2), whichever is less."""
    whole = int(psutil.virtual_memory().total)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        return whole if limit == "max" else min(whole, int(limit))
    except (OSError, ValueError):
        return whole


def main_memory(cgroup: Path = _CGROUP) -> int:
    """Free main memory: of the machine, or what a container's limit leaves (cgroup v2), whichever is less.

    The weights that we have mapped count as used, although the kernel could drop them: a model whose pages come and
    go is read from disk for every token.
    """
    free = max(0, int(psutil.virtual_memory().available) - _mapped())
    left = _container_left(cgroup)
    return free if left is None else min(free, left)


def together(free: Sequence[int], split: Sequence[float] = (), main_gpu: int | None = None) -> int:
    """The memory of several GPUs as one model sees it. Pure.

    `main_gpu` alone counts, if given. With `split` the GPU that is full first decides. Else llama.cpp spreads layers
    by free memory. Raises WorkerError(`model_load_failed`) for a GPU that is not there.
    """
    most = max(len(split), 0 if main_gpu is None else main_gpu + 1)
    if most > len(free):
        why = f"the options name {most} GPUs (tensor_split, main_gpu) and this worker sees {len(free)}"
        raise WorkerError(f"{why}; correct PENDRA_MODEL_OPTIONS", code="model_load_failed")
    if main_gpu is not None:
        return free[main_gpu]
    whole = sum(split)
    return min(
        (int(there * whole / part) for there, part in zip(free, split, strict=False) if part), default=sum(free)
    )


def _devices_memory(field: str) -> tuple[int, ...]:
    """Of the NVIDIA GPUs this process sees, or of the devices of its ROCm, Vulkan, Metal or SYCL build."""
    if builds.shipped() - {Build.CPU, Build.CUDA}:
        return build_memory(builds.accelerators(builds.devices()), field)
    return gpus_memory(os.environ.get("CUDA_VISIBLE_DEVICES"), field=field)


def build_memory(found: Sequence[BuildDevice], field: str) -> tuple[int, ...]:
    """`free` or `total` bytes of each device. Raises WorkerError when there is none, or one does not say."""
    if not found or not all(one.total for one in found):
        raise WorkerError("the GPU does not say how much memory is free", code="model_load_failed")
    return tuple(int(getattr(one, field)) for one in found)


def gpus_memory(visible: str | None, nvml: Any = None, *, field: str = "free") -> tuple[int, ...]:
    """`free` or `total` bytes of each visible GPU. `visible`: CUDA_VISIBLE_DEVICES, numbers or UUIDs, None = all."""
    nvml = nvml or importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        try:
            return tuple(int(getattr(nvml.nvmlDeviceGetMemoryInfo(one), field)) for one in _handles(nvml, visible))
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as exc:
        message = f"the GPU does not say how much memory is free ({type(exc).__name__})"
        raise WorkerError(message, code="model_load_failed") from None


def _handles(nvml: Any, visible: str | None) -> list[Any]:
    if visible is None:
        return [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
    names = [name.strip() for name in visible.split(",") if name.strip()] or ["0"]
    return [
        nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else nvml.nvmlDeviceGetHandleByUUID(name)
        for name in names
    ]


def _mapped() -> int:
    """Bytes of files this process has mapped and in memory (0 where the system does not say)."""
    return int(getattr(psutil.Process().memory_info(), "shared", 0))


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
