"""Which devices this machine serves on: one worker process per GPU, or CPU processes with CPU sets of their own.

Probing (NVML, the CPUs this process may use) is apart from planning, which is pure.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasks.errors import ConfigError
from tasks.logs import event

_LOG = logging.getLogger("pendra.devices")
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_OFFLOAD = "import llama_cpp.llama_cpp as l, sys; sys.exit(not l.llama_supports_gpu_offload())"
MAX_WORKERS = 64
_GPU_THREADS = 4


@dataclass(frozen=True, slots=True)
class Gpu:
    """What NVML says of one GPU. `uuid` is what CUDA_VISIBLE_DEVICES takes."""

    index: int
    uuid: str
    name: str


@dataclass(frozen=True, slots=True)
class Host:
    """What was found: `cpus` are the numbers we may run on, `quota` the CPU time a container allows (in CPUs)."""

    cpus: tuple[int, ...]
    gpus: tuple[Gpu, ...] = ()
    quota: float | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One worker process's share: `label` ends its worker id (`gpu0`, `cpu1`); no `gpu` = it computes on `cpus`."""

    label: str
    name: str
    threads: int
    cpus: tuple[int, ...] = ()
    gpu: Gpu | None = None


def plan(host: Host, workers: int | None = None) -> tuple[Device, ...]:
    """The devices to serve on. `workers` None: one per GPU, or one for all CPUs.

    More workers than GPUs share the GPUs in turn; more workers than CPUs share the CPUs in turn. Raises
    ConfigError for a number out of range.
    """
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise ConfigError(f"--workers {workers}: a number from 1 to {MAX_WORKERS} is allowed")
    if host.gpus:
        count = workers or len(host.gpus)
        return tuple(_gpu_device(host, number, count) for number in range(count))
    sets = shares(host.cpus, workers or 1)
    return tuple(_cpu_device(host, share, number, len(sets)) for number, share in enumerate(sets))


def shares(cpus: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """`count` neighbouring, disjoint, near-equal sets of CPUs; one CPU each, in turn, when there are too few."""
    if count > len(cpus):
        return [(cpus[number % len(cpus)],) for number in range(count)]
    size, extra = divmod(len(cpus), count)
    ends = [size * number + min(number, extra) for number in range(count + 1)]
    return [tuple(cpus[start:end]) for start, end in pairwise(ends)]


def visible(gpus: Sequence[Gpu], chosen: str | None) -> tuple[Gpu, ...]:
    """What is left of `gpus` under a CUDA_VISIBLE_DEVICES that was already set (numbers or UUIDs, CUDA's rules)."""
    if chosen is None:
        return tuple(gpus)
    found: list[Gpu] = []
    for name in filter(None, (part.strip() for part in chosen.split(","))):
        match = [gpu for gpu in gpus if str(gpu.index) == name or (not name.isdigit() and gpu.uuid.startswith(name))]
        if not match:
            break  # CUDA shows nothing from the first invalid name on
        found += match[:1]
    return tuple(found)


def probe() -> Host:
    """What this machine has for us. Blocks for about a second when there is a GPU."""
    gpus = visible(nvidia_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if gpus and not llama_uses_gpus():
        event(_LOG, logging.WARNING, "devices.cpu_build", gpus=len(gpus), hint="llama-cpp-python has no CUDA support")
        gpus = ()
    return Host(cpus=usable_cpus(), gpus=gpus, quota=cpu_quota())


def nvidia_gpus(nvml: Any = None) -> tuple[Gpu, ...]:
    """The GPUs NVML lists, in PCI order; none without a driver."""
    nvml = nvml or importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        return tuple(
            Gpu(number, _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle)))
            for number, handle in enumerate(handles)
        )
    except nvml.NVMLError as exc:
        event(_LOG, logging.WARNING, "devices.nvml_failed", error=type(exc).__name__)
        return ()
    finally:
        nvml.nvmlShutdown()


def llama_uses_gpus() -> bool:
    """Whether the installed llama.cpp can offload; asked in a process of its own, so that CUDA never loads here."""
    done = subprocess.run(
        [sys.executable, "-c", _OFFLOAD], capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def usable_cpus() -> tuple[int, ...]:
    if sys.platform.startswith("linux"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cpu_quota(path: Path = _CGROUP_QUOTA) -> float | None:
    """CPUs' worth of time the container may use (cgroup v2 `cpu.max`), None = no limit."""
    try:
        limit, period = path.read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        return None


def _cpu_device(host: Host, share: tuple[int, ...], number: int, workers: int) -> Device:
    """As many threads as CPUs in the set, and no more than the child's part of a container's CPU time."""
    threads = len(share)
    if host.quota is not None:
        threads = max(1, min(threads, math.ceil(host.quota / workers)))
    return Device(label=f"cpu{number}", name="CPU", threads=threads, cpus=share)


def _gpu_device(host: Host, number: int, workers: int) -> Device:
    """The layers are on the GPU; a few CPU threads serve what stays on the host."""
    gpu = host.gpus[number % len(host.gpus)]
    threads = max(1, min(_GPU_THREADS, len(host.cpus) // workers))
    return Device(label=f"gpu{number}", name=gpu.name, threads=threads, gpu=gpu)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
