"""What the NVIDIA driver says, through NVML (nvidia-ml-py): which GPUs there are, how they are, who uses them.

Every function takes the module, so that tests bring one of their own. None of them loads CUDA. Blocking, any thread;
between `opened` and its end. Source: NVML API reference (docs.nvidia.com/deploy/nvml-api).
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from tasks.figures import GpuFigures
from tasks.logs import event

_LOG = logging.getLogger("pendra.devices")
_MILLI = 1000
_PERCENT = 100
_WORD_BITS = 64
_MOST_CPUS = 1024
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance of one. `uuid` is what CUDA_VISIBLE_DEVICES takes.

    `index` is NVML's, of a MIG instance its GPU's; `mig`: the instance's number. `cpus`: those on the same NUMA node,
    () = not known.
    """

    index: int
    uuid: str
    name: str
    mig: int | None = None
    cpus: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        return f"gpu{self.index}" if self.mig is None else f"gpu{self.index}m{self.mig}"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process with memory on a GPU. `used`: bytes, None = the driver does not say (Windows, another container)."""

    pid: int
    uuid: str
    used: int | None


@contextmanager
def opened(nvml: Any = None) -> Iterator[Any]:
    """The module, initialised; None where there is no driver."""
    module = nvml or importlib.import_module("pynvml")
    try:
        module.nvmlInit()
    except module.NVMLError:
        yield None
        return
    try:
        yield module
    finally:
        module.nvmlShutdown()


def gpus(nvml: Any) -> tuple[Gpu, ...]:
    """All GPUs in PCI order, a GPU in MIG mode as its instances. One that does not answer is left out, and logged."""
    found: list[Gpu] = []
    for number in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            found += _mig(nvml, handle, number) or [_gpu(nvml, handle, number)]
        except nvml.NVMLError as exc:
            event(_LOG, logging.ERROR, "devices.gpu_silent", gpu=number, error=type(exc).__name__)
    return tuple(found)


def handle_of(nvml: Any, name: str) -> Any:
    """The handle of a number or UUID as CUDA_VISIBLE_DEVICES has it. Raises NVMLError."""
    return nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else nvml.nvmlDeviceGetHandleByUUID(name)


def figures(nvml: Any, handle: Any) -> GpuFigures:
    """What one GPU says of itself now. Raises NVMLError for one that is gone; what it does not measure is None."""
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    power = _asked(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    busy = _asked(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    return GpuFigures(
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory_used=int(memory.used),
        memory_total=int(memory.total),
        temperature_c=_asked(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        power_w=None if power is None else power / _MILLI,
        utilisation=None if busy is None else busy / _PERCENT,
        ecc_errors=_asked(
            nvml,
            lambda: nvml.nvmlDeviceGetTotalEccErrors(
                handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            ),
        ),
    )


def is_lost(nvml: Any, error: Exception) -> bool:
    """Whether the error says that the GPU is gone (off the bus, or in need of a reset) rather than unable to say."""
    gone = {nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED, nvml.NVML_ERROR_NOT_FOUND}
    return getattr(error, "value", None) in gone


def holders(nvml: Any, names: Sequence[str]) -> tuple[Holder, ...]:
    """The processes that hold memory on these GPUs."""
    found: list[Holder] = []
    for name in names:
        handle = handle_of(nvml, name)
        for row in _asked(nvml, partial(nvml.nvmlDeviceGetComputeRunningProcesses, handle)) or ():
            used = None if row.usedGpuMemory is None else int(row.usedGpuMemory)
            found.append(Holder(int(row.pid), name, used))
    return tuple(found)


def _gpu(nvml: Any, handle: Any, number: int) -> Gpu:
    name = _text(nvml.nvmlDeviceGetName(handle))
    return Gpu(number, _text(nvml.nvmlDeviceGetUUID(handle)), name, cpus=_near_cpus(nvml, handle))


def _mig(nvml: Any, handle: Any, number: int) -> list[Gpu]:
    """The MIG instances of a GPU, [] when it is not in MIG mode. With MIG on nobody can compute on the whole GPU."""
    mode = _asked(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle))
    if not mode or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return []
    found = []
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        one = _asked(nvml, partial(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, place))
        if one is not None:
            name, uuid = _text(nvml.nvmlDeviceGetName(one)), _text(nvml.nvmlDeviceGetUUID(one))
            found.append(Gpu(number, uuid, name, mig=place, cpus=_near_cpus(nvml, handle)))
    if not found:
        event(_LOG, logging.WARNING, "devices.mig_empty", gpu=number, hint="nvidia-smi mig -cgi … -C makes instances")
    return found


def _near_cpus(nvml: Any, handle: Any) -> tuple[int, ...]:
    words = _asked(nvml, lambda: nvml.nvmlDeviceGetCpuAffinity(handle, _MOST_CPUS // _WORD_BITS)) or ()
    return tuple(
        at * _WORD_BITS + bit for at, word in enumerate(words) for bit in range(_WORD_BITS) if int(word) >> bit & 1
    )


def _asked(nvml: Any, question: Callable[[], T]) -> T | None:
    """The answer; None when this device does not know such a thing. A lost device raises."""
    try:
        return question()
    except nvml.NVMLError as exc:
        if is_lost(nvml, exc):
            raise
        return None


def _text(value: str | bytes) -> str:
    """Older bindings give bytes."""
    return value.decode() if isinstance(value, bytes) else value
