"""What we read of the driver is what nvidia-smi says."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from worker import nvml, vram
from worker.gpu_watch import GpuWatch, check
from worker.nvml import Gpu


def test_every_gpu_that_nvidia_smi_lists_is_found(gpus: tuple[Gpu, ...]) -> None:
    tool = shutil.which("nvidia-smi")
    assert tool is not None, "the driver is here and its tool is not"
    said = subprocess.run([tool, "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert all(gpu.uuid in said for gpu in gpus)
    assert said.count("UUID: MIG-") or said.count("UUID: GPU-") == len(gpus)


def test_figures_are_plausible(gpus: tuple[Gpu, ...]) -> None:
    with nvml.opened() as module:
        for gpu in gpus:
            one = nvml.figures(module, nvml.handle_of(module, gpu.uuid))
            assert one.uuid == gpu.uuid
            assert one.memory_total is not None
            assert 0 <= (one.memory_used or 0) <= one.memory_total
            if gpu.mig is None:
                assert one.temperature_c is not None
                assert 0 < one.temperature_c < 120
                assert 0 <= (one.utilisation or 0) <= 1
                assert (one.power_w or 1) > 0


def test_a_gpu_that_answers_is_checked_and_watched(gpus: tuple[Gpu, ...]) -> None:
    check(tuple(gpu.uuid for gpu in gpus))
    watch = GpuWatch((gpus[0].uuid,), lambda: pytest.fail("it is there"))
    with nvml.opened() as module:
        assert not watch.look(module)
    assert [one.uuid for one in watch.figures] == [gpus[0].uuid]


def test_who_holds_memory_can_be_asked(gpus: tuple[Gpu, ...]) -> None:
    assert all(row.gpu.startswith("gpu") and row.pid > 0 for row in vram.held(gpus))
