"""GPUs against the build of llama.cpp: a card that an engine without CUDA would leave idle."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from ops.doctor.verdict import Verdict, ok, warning
from worker.devices import llama_uses_gpus, nvidia_gpus

CHECK = "gpu"
_REINSTALL = (
    "install a CUDA build: CMAKE_ARGS=-DGGML_CUDA=on pip install --force-reinstall --no-cache-dir llama-cpp-python, "
    "or its ready wheel from the project's CUDA index"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """`names` of the GPUs the driver shows; `tool`: nvidia-smi is installed; `offloads`: llama.cpp uses GPUs."""

    names: tuple[str, ...]
    tool: bool
    offloads: bool


def look() -> list[Verdict]:
    names = tuple(gpu.name for gpu in nvidia_gpus())
    return [judge(Facts(names, shutil.which("nvidia-smi") is not None, llama_uses_gpus()))]


def judge(facts: Facts) -> Verdict:
    cards = ", ".join(facts.names)
    if facts.names and not facts.offloads:
        return warning(CHECK, f"{cards} found, but llama-cpp-python is built for the CPU only", _REINSTALL)
    if facts.names:
        return ok(CHECK, f"{cards}; llama-cpp-python uses it")
    if facts.tool:
        fix = "run nvidia-smi: it says why; after a kernel or driver update reboot, in a container pass --gpus all"
        return warning(CHECK, "nvidia-smi is installed, but the driver shows no GPU", fix)
    build = "a GPU build" if facts.offloads else "a CPU build"
    return ok(CHECK, f"no NVIDIA GPU; llama-cpp-python is {build}")
