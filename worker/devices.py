"""Which devices this machine serves on: one worker process per GPU, MIG instance or group of GPUs, or CPU processes
with CPU sets of their own.

Probing (`worker.nvml`, `worker.builds`, the CPUs this process may use) is apart from planning, which is pure.
"""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from tasks.errors import ConfigError
from tasks.logs import event
from worker import builds
from worker import nvml as driver
from worker.builds import VISIBLE, Build, BuildDevice
from worker.nvml import Gpu as Gpu  # noqa: PLC0414  # exported: what planning is about

_LOG = logging.getLogger("pendra.devices")
_NODES = Path("/sys/devices/system/node")
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_OFFLOAD = "import llama_cpp.llama_cpp as l, sys; sys.exit(not l.llama_supports_gpu_offload())"
MAX_WORKERS = 64
_GPU_THREADS = 4
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Host:
    """What was found: `cpus` are the numbers we may run on, `quota` the CPU time a container allows (in CPUs).

    `others`: devices of a build for something else than CUDA. `nodes`: the CPUs of each NUMA node.
    """

    cpus: tuple[int, ...]
    gpus: tuple[Gpu, ...] = ()
    quota: float | None = None
    others: tuple[BuildDevice, ...] = ()
    nodes: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """One worker process's share: `label` ends its worker id (`gpu0`, `gpu0-1`, `gpu0m1`, `cpu1`).

    `gpus`: the NVIDIA GPUs it has; `env` shows it its device and no other. `cpus`: those it runs on, () = all.
    """

    label: str
    name: str
    threads: int
    cpus: tuple[int, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    @property
    def gpu(self) -> Gpu | None:
        return self.gpus[0] if self.gpus else None


def plan(host: Host, workers: int | None = None, groups: Sequence[Sequence[str]] = ()) -> tuple[Device, ...]:
    """The devices to serve on. `workers` None: one per GPU (or group), or one for all CPUs.

    `groups`: GPUs (numbers or UUIDs) that one process has together; those in no group have one each. More workers
    than GPUs share the GPUs in turn; more workers than CPUs share the CPUs in turn. Raises ConfigError for a number
    out of range, and for a group that cannot be.
    """
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise ConfigError(f"--workers {workers}: a number from 1 to {MAX_WORKERS} is allowed")
    if groups or host.gpus:
        units = _units(host.gpus, groups)
        return _labelled([_gpu_device(host, unit, workers or len(units)) for unit in _times(units, workers)])
    if host.others:
        return _labelled([_other_device(host, one, workers or 1) for one in _times(host.others, workers)])
    sets = _cpu_sets(host, workers or 1)
    return tuple(_cpu_device(host, share, number, len(sets)) for number, share in enumerate(sets))


def _units(gpus: Sequence[Gpu], groups: Sequence[Sequence[str]]) -> list[tuple[Gpu, ...]]:
    """The groups, then every GPU that is in none, in the order of the first GPU of each."""
    made = [tuple(_member(gpus, name) for name in group) for group in groups]
    taken = {gpu.uuid for group in made for gpu in group}
    if len(taken) < sum(map(len, made)):
        raise ConfigError("PENDRA_GPU_GROUPS names a GPU twice (by number and by UUID); each may be in one group")
    units = made + [(gpu,) for gpu in gpus if gpu.uuid not in taken]
    return sorted(units, key=lambda unit: (unit[0].index, unit[0].mig or 0))


def _member(gpus: Sequence[Gpu], name: str) -> Gpu:
    found = [gpu for gpu in gpus if name in {str(gpu.index), gpu.uuid}]
    if not found:
        seen = ", ".join(gpu.label for gpu in gpus) or "none"
        raise ConfigError(f"PENDRA_GPU_GROUPS names the GPU {name}, which is not here; usable GPUs: {seen}")
    if found[0].mig is not None:
        raise ConfigError(f"the GPU {name} in PENDRA_GPU_GROUPS is in MIG mode; instances cannot work together")
    return found[0]


def _times(units: Sequence[T], workers: int | None) -> list[T]:
    return [units[number % len(units)] for number in range(workers or len(units))]


def _labelled(devices: Sequence[Device]) -> tuple[Device, ...]:
    """A device that several processes share gets a number for each after the first: `gpu0`, `gpu0x1`, …"""
    seen: dict[str, int] = {}
    out = []
    for device in devices:
        times = seen.get(device.label, 0)
        seen[device.label] = times + 1
        out.append(replace(device, label=f"{device.label}x{times}") if times else device)
    return tuple(out)


def _cpu_sets(host: Host, workers: int) -> list[tuple[int, ...]]:
    """CPU sets that do not reach over NUMA nodes, when there are enough workers for all nodes."""
    ours = [tuple(cpu for cpu in node if cpu in host.cpus) for node in host.nodes]
    nodes = [node for node in ours if node]
    if not 1 < len(nodes) <= workers:
        return shares(host.cpus, workers)
    each, more = divmod(workers, len(nodes))
    return [share for at, node in enumerate(nodes) for share in shares(node, each + (at < more))]


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
    others = other_devices()
    if gpus and others:
        gpus = ()  # a build for something else ignores CUDA_VISIBLE_DEVICES: its own variable chooses
    elif gpus and not llama_uses_gpus():
        event(_LOG, logging.WARNING, "devices.cpu_build", gpus=len(gpus), hint="llama-cpp-python has no CUDA support")
        gpus = ()
    return Host(cpus=usable_cpus(), gpus=gpus, quota=cpu_quota(), others=others, nodes=numa_nodes())


def nvidia_gpus(nvml: Any = None) -> tuple[Gpu, ...]:
    """The GPUs and MIG instances NVML lists, in PCI order; none without a driver, nor one that does not answer."""
    with driver.opened(nvml) as module:
        if module is None:
            return ()
        try:
            return driver.gpus(module)
        except module.NVMLError as exc:
            event(_LOG, logging.WARNING, "devices.nvml_failed", error=type(exc).__name__)
            return ()


def other_devices() -> tuple[BuildDevice, ...]:
    """The GPUs of a ROCm, Vulkan, Metal or SYCL build. Starts a process, only where such a build is installed."""
    if not builds.shipped() - {Build.CPU, Build.CUDA}:
        return ()
    return tuple(one for one in builds.accelerators(builds.devices()) if one.build is not Build.CUDA)


def numa_nodes(path: Path = _NODES) -> tuple[tuple[int, ...], ...]:
    """The CPUs of each NUMA node; () where the system does not say (no Linux, or not readable)."""
    try:
        return tuple(_cpu_list((node / "cpulist").read_text()) for node in sorted(path.glob("node[0-9]*")))
    except (OSError, ValueError):
        return ()


def _cpu_list(text: str) -> tuple[int, ...]:
    """`0-3,8` as Linux writes it."""
    ranges = [part.partition("-") for part in text.strip().split(",") if part]
    return tuple(cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1))


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


def _gpu_device(host: Host, unit: tuple[Gpu, ...], workers: int) -> Device:
    """The layers are on the GPUs; a few CPU threads, near the first one, serve what stays on the host."""
    first = unit[0]
    label = first.label if len(unit) == 1 else "gpu" + "-".join(str(gpu.index) for gpu in unit)
    name = first.name if len(unit) == 1 else f"{len(unit)} × {first.name}"
    near = tuple(cpu for cpu in first.cpus if cpu in host.cpus)
    cpus = near if 0 < len(near) < len(host.cpus) else ()
    env = ((VISIBLE[Build.CUDA], ",".join(gpu.uuid for gpu in unit)),)
    return Device(label, name, _threads(host, workers), cpus=cpus, gpus=unit, env=env)


def _other_device(host: Host, one: BuildDevice, workers: int) -> Device:
    env = ((VISIBLE[one.build], str(one.number)),) if one.build in VISIBLE else ()
    return Device(f"gpu{one.number}", one.about or one.name, _threads(host, workers), env=env)


def _threads(host: Host, workers: int) -> int:
    return max(1, min(_GPU_THREADS, len(host.cpus) // workers))
