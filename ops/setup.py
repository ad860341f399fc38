"""What `pendra setup` will write, decided before anything is written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.wheels import Build, Machine, best, choose


@dataclass(frozen=True, slots=True)
class Question:
    """One question of the wizard, which is also the option `--<flag>`."""

    name: str
    flag: str
    text: str
    secret: bool = False


QUESTIONS: tuple[Question, ...] = (
    Question("gpu_worker_private_key", "key", "Worker key from the console (empty: only this machine)", secret=True),
    Question("worker_name", "name", "Name of this worker, shown to people"),
    Question("models_dir", "models_dir", "Folder for models"),
    Question("app_server_ws_url", "api_url", "Pendra API"),
    Question("redis_url", "redis_url", "Redis of the fleet"),
    Question("ollama_endpoint", "ollama", "Ollama: a URL, off, or auto"),
    Question("vllm_endpoint", "vllm", "vLLM: a URL, off, or auto"),
    Question("lmstudio_endpoint", "lmstudio", "LM Studio: a URL, off, or auto"),
    Question("speaches_endpoint", "speaches", "Speaches: a URL, off, or auto"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """`changes` go to the file; `replaced` names those that take the place of another value there."""

    changes: Mapping[str, Any] = field(repr=False)  # holds the key
    replaced: tuple[str, ...]


def plan(in_file: Mapping[str, Any], answers: Mapping[str, Any]) -> Plan:
    """What to write: the answers that the file does not say yet. Both are in checked form."""
    changes = {name: value for name, value in answers.items() if value != in_file.get(name)}
    return Plan(changes, tuple(name for name in changes if in_file.get(name) is not None))


def next_steps(*, has_key: bool, fleet_key_path: str, redis_url: str) -> str:
    """What to do now, as commands."""
    lines = ["Next:", "  pendra models install smollm2:135m   a small model to try"]
    if not has_key:
        lines += [
            "  pendra up --model smollm2:135m       everything on this machine, with a local API",
            "  pendra setup --key-file FILE         once you have a worker key from the Pendra console",
        ]
        return "\n".join(lines)
    lines += [
        "  pendra worker                        on every host that serves models",
        "  pendra bridge                        on one host; dials the Pendra API",
        f"All hosts share the Redis at {redis_url} and one fleet key: copy {fleet_key_path} to each of them.",
    ]
    return "\n".join(lines)


def build_advice(machine: Machine, python: str, *, wanted: Build | None, uses_gpu: Callable[[], bool]) -> str:
    """The line that installs the llama.cpp that fits the machine, or the build that is `wanted`; "" when it is here.

    `uses_gpu` tells whether the installed one can (asked only when it matters).
    """
    build = wanted or best(machine)
    if build is Build.CPU and wanted is None:
        return ""
    if wanted is None and uses_gpu():
        return ""
    why = f"for --build {build}" if wanted else f"llama.cpp here computes on the CPU only; to use {build}"
    return f"{why}:\n  {choose(build, machine).shown(python)} --force-reinstall"
