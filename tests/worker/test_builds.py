"""Which devices a build has: ggml's registry, read by its names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker import builds
from worker.builds import Build, BuildDevice, accelerators, parse


def row(registry: str, name: str, about: str = "a card") -> dict[str, object]:
    return {"registry": registry, "name": name, "about": about, "free": 1, "total": 2}


@pytest.mark.parametrize(
    ("registry", "build"),
    [
        ("CUDA", Build.CUDA),
        ("ROCm", Build.ROCM),
        ("Vulkan", Build.VULKAN),
        ("Metal", Build.METAL),
        ("MTL", Build.METAL),
        ("SYCL", Build.SYCL),
        ("CPU", Build.CPU),
    ],
)
def test_every_registry_has_its_build(registry: str, build: Build) -> None:
    assert parse(json.dumps([row(registry, "x")])) == (BuildDevice(build, 0, "x", "a card", 1, 2),)


def test_devices_are_numbered_within_their_build() -> None:
    found = parse(
        json.dumps([row("Vulkan", "Vulkan0"), row("Vulkan", "Vulkan1"), row("CPU", "CPU"), row("BLAS", "B")])
    )
    assert [(one.build, one.number) for one in found] == [(Build.VULKAN, 0), (Build.VULKAN, 1), (Build.CPU, 0)]
    assert [one.name for one in accelerators(found)] == ["Vulkan0", "Vulkan1"]


def test_what_is_no_answer_is_no_device() -> None:
    assert parse("") == parse("Traceback") == ()


def test_the_installed_build_says_at_least_that_it_has_a_cpu() -> None:
    assert Build.CPU in {one.build for one in builds.devices()}


def test_builds_by_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("libggml-base.so", "libggml-cpu.so", "libggml-vulkan.so.0", "ggml-hip.dll"):
        (tmp_path / name).touch()
    assert builds.shipped(tmp_path) == {Build.CPU, Build.VULKAN, Build.ROCM}
    monkeypatch.setattr("sys.platform", "darwin")
    assert Build.METAL in builds.shipped(tmp_path)
