"""GPUs against the build of llama.cpp: a card that an engine without CUDA would leave idle."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from ops.doctor.verdict import Verdict, ok, warning
from worker.devices import llama_uses_gpus, nvidia_gpus
from worker.vram import Held, held

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
    gpus = nvidia_gpus()
    names = tuple(gpu.name for gpu in gpus)
    about = judge(Facts(names, shutil.which("nvidia-smi") is not None, llama_uses_gpus()))
    return [about, *judge_holders(held(gpus) if gpus else ())]


def judge_holders(rows: Iterable[Held]) -> list[Verdict]:
    """Workers of ours that outlived their supervisor and hold memory of a GPU."""
    fix = "end it; if it does not go, the driver hangs: see `nvidia-smi` and `dmesg`"
    return [warning(CHECK, row.words, fix) for row in rows if row.orphan]


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
