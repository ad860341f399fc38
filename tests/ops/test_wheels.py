"""Which index and which compiler flags a build of llama-cpp-python gets on which machine."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import pytest

from ops import wheels
from ops.wheels import Build, Machine, best, choose, cuda_of

BASE = "https://abetlen.github.io/llama-cpp-python/whl"
LINUX = Machine("Linux", "x86_64")


@pytest.mark.parametrize(
    ("build", "machine", "index"),
    [
        (Build.CPU, LINUX, "cpu"),
        (Build.CPU, Machine("Windows", "AMD64"), "cpu"),
        (Build.CPU, Machine("Linux", "aarch64"), None),
        (Build.CPU, Machine("Darwin", "arm64"), None),
        (Build.CUDA, Machine("Linux", "x86_64", (12, 4)), "cu124"),
        (Build.CUDA, Machine("Linux", "x86_64", (12, 2)), "cu122"),
        (Build.CUDA, Machine("Linux", "x86_64", (12, 9)), "cu124"),
        (Build.CUDA, Machine("Linux", "x86_64", (13, 0)), "cu124"),  # newer drivers run older CUDA
        (Build.CUDA, Machine("Linux", "x86_64", (12, 0)), None),
        (Build.CUDA, Machine("Linux", "x86_64", (11, 8)), None),
        (Build.CUDA, Machine("Linux", "aarch64", (12, 4)), None),
        (Build.CUDA, LINUX, None),
        (Build.METAL, Machine("Darwin", "arm64"), "metal"),
        (Build.METAL, LINUX, None),
        (Build.ROCM, LINUX, None),
        (Build.VULKAN, LINUX, None),
    ],
)
def test_the_index(build, machine, index):
    assert choose(build, machine).index == (index and f"{BASE}/{index}")


@pytest.mark.parametrize(
    ("machine", "build"),
    [
        (LINUX, Build.CPU),
        (Machine("Linux", "x86_64", (12, 4)), Build.CUDA),
        (Machine("Darwin", "arm64"), Build.METAL),
        (Machine("Darwin", "x86_64"), Build.CPU),
    ],
)
def test_what_a_machine_has(machine, build):
    assert best(machine) is build


@pytest.mark.parametrize(
    ("build", "flag"),
    [(Build.CUDA, "-DGGML_CUDA=ON"), (Build.ROCM, "-DGGML_HIP=ON"), (Build.VULKAN, "-DGGML_VULKAN=ON")],
)
def test_what_is_compiled_gets_its_flag(build, flag):
    line = choose(build, Machine("Linux", "aarch64")).shown("python")
    assert shlex.split(line)[0] == f"CMAKE_ARGS={flag}"


def test_the_line_to_type():
    assert choose(Build.CPU, LINUX).shown("/v/bin/python") == (
        f"/v/bin/python -m pip install --upgrade --no-deps --prefer-binary --extra-index-url {BASE}/cpu "
        "'llama-cpp-python>=0.3.36,<0.4'"
    )


def test_the_version_is_the_projects():
    project = tomllib.loads((Path(wheels.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert wheels.REQUIREMENT in project["dependencies"]


def test_cuda_as_nvidia_smi_tells_it():
    said = "| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4     |"
    assert cuda_of(said) == (12, 4)
    assert cuda_of("No devices were found") is None


def test_the_program_prints_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENDRA_PIP", "/x/python")
    assert wheels.main(["vulkan"]) == 0
    assert capsys.readouterr().out.startswith("CMAKE_ARGS=-DGGML_VULKAN=ON /x/python -m pip install")
