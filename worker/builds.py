"""Which devices this build of llama.cpp can compute on: CUDA, ROCm, Vulkan, Metal, or the CPU alone.

Asked of ggml's own registry of backends (`ggml-backend.h`), in a process of its own, so that no GPU library is loaded
into the supervisor. Parsing is pure.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_TIMEOUT_S = 60.0


class Build(StrEnum):
    """Backends as ggml registers them, by what people call them."""

    CUDA = "cuda"
    ROCM = "rocm"
    VULKAN = "vulkan"
    METAL = "metal"
    SYCL = "sycl"
    CPU = "cpu"


_REGISTERED = {
    "CUDA": Build.CUDA,
    "ROCM": Build.ROCM,
    "HIP": Build.ROCM,
    "VULKAN": Build.VULKAN,
    "METAL": Build.METAL,
    "MTL": Build.METAL,
    "SYCL": Build.SYCL,
    "CPU": Build.CPU,
}
_FILES = {
    "cuda": Build.CUDA,
    "hip": Build.ROCM,
    "vulkan": Build.VULKAN,
    "metal": Build.METAL,
    "sycl": Build.SYCL,
    "cpu": Build.CPU,
}
VISIBLE = {
    Build.CUDA: "CUDA_VISIBLE_DEVICES",
    Build.ROCM: "HIP_VISIBLE_DEVICES",
    Build.VULKAN: "GGML_VK_VISIBLE_DEVICES",
}
"""The variable that shows a process one device. Metal has one device."""


@dataclass(frozen=True, slots=True)
class BuildDevice:
    """A device that ggml lists. `number`: among those of its build. Bytes; 0 = it does not say."""

    build: Build
    number: int
    name: str
    about: str
    free: int = 0
    total: int = 0


def parse(text: str) -> tuple[BuildDevice, ...]:
    """What `worker.builds_probe` printed; () for anything else."""
    try:
        rows = json.loads(text)
    except ValueError:
        return ()
    counts: dict[Build, int] = {}
    found = []
    for row in rows:
        build = _REGISTERED.get(str(row["registry"]).upper())
        if build is not None:
            number = counts[build] = counts.get(build, -1) + 1
            found.append(
                BuildDevice(build, number, str(row["name"]), str(row["about"]), int(row["free"]), int(row["total"]))
            )
    return tuple(found)


def devices() -> tuple[BuildDevice, ...]:
    """All devices of the installed build; () when it cannot be asked. Blocks for about a second."""
    argv = [sys.executable, "-m", "worker.builds_probe"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse(done.stdout)


def shipped(folder: Path | None = None) -> frozenset[Build]:
    """The backends whose library lies in the installed package; quick, and loads nothing. Metal on every Mac."""
    places = [folder] if folder else _library_folders()
    names = [path.name for place in places for path in place.glob("*ggml-*")]
    found = {build for word, build in _FILES.items() if any(f"ggml-{word}" in name for name in names)}
    return frozenset(found | ({Build.METAL} if sys.platform == "darwin" else set()))


def _library_folders() -> list[Path]:
    spec = importlib.util.find_spec("llama_cpp")
    return [Path(place) / "lib" for place in (spec.submodule_search_locations or ())] if spec else []


def accelerators(found: tuple[BuildDevice, ...]) -> tuple[BuildDevice, ...]:
    return tuple(one for one in found if one.build is not Build.CPU)
