"""How much memory is free: main memory within a container's limit, or the first visible GPU's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tasks.errors import WorkerError
from tasks.settings import Settings, load_settings
from worker import memory

GB = 1024**3


class Nvml:
    class NVMLError(Exception):
        pass

    def __init__(self, free: dict[int | str, int]) -> None:
        self._free = free
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802  # NVML's name
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: int | str) -> SimpleNamespace:  # noqa: N802
        if handle not in self._free:
            raise self.NVMLError
        return SimpleNamespace(free=self._free[handle])


def settings(tmp_path: Path, **fields: object) -> Settings:
    return load_settings(home=tmp_path, worker_id="w", **fields)


@pytest.mark.parametrize(("visible", "free"), [(None, 1), ("0", 1), ("1,0", 2), ("GPU-abc", 3), ("GPU-abc,1", 3)])
def test_the_first_visible_gpu_counts(visible, free):
    nvml = Nvml({0: 1, 1: 2, "GPU-abc": 3})
    assert memory.gpu_memory(visible, nvml) == free
    assert nvml.open == 0


def test_a_gpu_that_does_not_answer():
    nvml = Nvml({})
    with pytest.raises(WorkerError, match="does not say"):
        memory.gpu_memory("7", nvml)
    assert nvml.open == 0


def test_a_containers_limit_counts_when_it_is_less(tmp_path):
    free = psutil.virtual_memory().available
    (tmp_path / "memory.max").write_text(f"{GB}\n")
    (tmp_path / "memory.current").write_text(f"{GB - 1000}\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 300\nactive_file 7\n")
    assert memory.main_memory(tmp_path) == min(free, 1300)


def test_without_a_limit_the_machines_memory_counts(tmp_path):
    assert memory.main_memory(tmp_path) > 0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.main_memory(tmp_path) > 0


def test_where_a_model_lives(tmp_path):
    assert memory.on_cpu(settings(tmp_path, device="cpu0"))
    assert not memory.on_cpu(settings(tmp_path, device="gpu1"))
    assert memory.on_cpu(settings(tmp_path, device="gpu1", n_gpu_layers=0))
    assert memory.free_bytes(settings(tmp_path, device="cpu0")) > 0
