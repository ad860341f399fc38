"""Which build of llama-cpp-python fits a machine: where its ready wheels are, and how it is compiled where none fits.

`python3 -m ops.wheels [BUILD] [--install]` prints (or does) it for this machine. Standard library only: the installer
runs it before anything is installed. The indices are llama-cpp-python's own; it publishes wheels for x86-64 (CPU,
CUDA) and for Macs with Metal. pip takes one that has the right version and otherwise compiles, with `cmake_args`.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum

_INDEX = "https://abetlen.github.io/llama-cpp-python/whl"
_CUDA = ((12, 1), (12, 2), (12, 3), (12, 4))  # those that exist; a driver runs any of its major version up to its own
_X86 = ("x86_64", "amd64")
REQUIREMENT = "llama-cpp-python>=0.3.36,<0.4"


class Build(StrEnum):
    CUDA = "cuda"
    ROCM = "rocm"
    VULKAN = "vulkan"
    METAL = "metal"
    CPU = "cpu"


_CMAKE = {
    Build.CUDA: "-DGGML_CUDA=ON",
    Build.ROCM: "-DGGML_HIP=ON",
    Build.VULKAN: "-DGGML_VULKAN=ON",
    Build.METAL: "-DGGML_METAL=ON",
    Build.CPU: "",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """`system` and `machine` as `platform` says them; `cuda`: the newest CUDA the driver runs, None without one."""

    system: str
    machine: str
    cuda: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Wheels:
    """`index` None: nobody publishes wheels of this build for this machine, so it is compiled."""

    build: Build
    index: str | None
    cmake_args: str

    def pip(self, python: str) -> tuple[str, ...]:
        """The command that installs it and nothing else: what it needs comes from the usual index."""
        where = ("--extra-index-url", self.index) if self.index else ()
        return (python, "-m", "pip", "install", "--upgrade", "--no-deps", "--prefer-binary", *where, REQUIREMENT)

    def shown(self, python: str) -> str:
        """The same as a line for a shell."""
        setting = f"CMAKE_ARGS={shlex.quote(self.cmake_args)} " if self.cmake_args else ""
        return setting + shlex.join(self.pip(python))


def best(machine: Machine) -> Build:
    """The build that uses what the machine has. Pure."""
    if machine.system == "Darwin" and machine.machine == "arm64":
        return Build.METAL
    return Build.CUDA if machine.cuda else Build.CPU


def choose(build: Build, machine: Machine) -> Wheels:
    """Where the wheels of `build` for `machine` are. Pure."""
    return Wheels(build, _index(build, machine), _CMAKE[build])


def _index(build: Build, machine: Machine) -> str | None:
    x86 = machine.machine.lower() in _X86
    if build is Build.METAL and machine.system == "Darwin":
        return f"{_INDEX}/metal"
    if build is Build.CPU and x86:
        return f"{_INDEX}/cpu"
    if build is Build.CUDA and x86 and machine.system in ("Linux", "Windows") and machine.cuda:
        fitting = [one for one in _CUDA if one <= machine.cuda and one[0] == min(machine.cuda[0], _CUDA[-1][0])]
        return f"{_INDEX}/cu{fitting[-1][0]}{fitting[-1][1]}" if fitting else None
    return None


def cuda_of(nvidia_smi: str) -> tuple[int, int] | None:
    """The CUDA version in what `nvidia-smi` prints. Pure."""
    found = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", nvidia_smi)
    return (int(found[1]), int(found[2])) if found else None


def this_machine() -> Machine:
    """Asks `nvidia-smi`, which may take a second."""
    return Machine(platform.system(), platform.machine(), _driver_cuda())


def _driver_cuda() -> tuple[int, int] | None:
    asked = shutil.which("nvidia-smi")
    if asked is None:
        return None
    try:
        done = subprocess.run([asked], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return cuda_of(done.stdout) if done.returncode == 0 else None


def install(wheels: Wheels, python: str, *, fresh: bool) -> int:
    """Run pip; its exit status. `fresh`: also when a build of the right version is there already."""
    env = os.environ | ({"CMAKE_ARGS": wheels.cmake_args} if wheels.cmake_args else {})
    again = ("--force-reinstall", "--no-cache-dir") if fresh else ()
    return subprocess.run([*wheels.pip(python), *again], env=env, check=False).returncode


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ops.wheels", description="which build of llama-cpp-python fits")
    parser.add_argument("build", nargs="?", choices=[one.value for one in Build], help="default: what fits")
    parser.add_argument("--install", action="store_true", help="run pip instead of printing its command")
    parser.add_argument("--upgrade", action="store_true", help="also when it is installed: build or fetch it anew")
    asked = parser.parse_args(argv)
    machine = this_machine()
    wheels = choose(Build(asked.build) if asked.build else best(machine), machine)
    python = os.environ.get("PENDRA_PIP", sys.executable)
    if asked.install:
        return install(wheels, python, fresh=asked.upgrade)
    print(wheels.shown(python))  # noqa: T201  # a program's own output
    return 0


if __name__ == "__main__":
    sys.exit(main())
