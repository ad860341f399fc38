"""How much memory is free: main memory within a container's limit, or the visible GPUs'."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tasks.errors import WorkerError
from worker import builds, memory
from worker.builds import Build, BuildDevice
from worker.options import Options

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

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return sum(isinstance(one, int) for one in self._free)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: int | str) -> SimpleNamespace:  # noqa: N802
        if handle not in self._free:
            raise self.NVMLError
        return SimpleNamespace(free=self._free[handle])


@pytest.mark.parametrize(
    ("visible", "free"), [(None, (1, 2)), ("0", (1,)), ("1,0", (2, 1)), ("GPU-abc", (3,)), ("GPU-abc, 1", (3, 2))]
)
def test_the_visible_gpus_in_their_order(visible, free):
    nvml = Nvml({0: 1, 1: 2, "GPU-abc": 3})
    assert memory.gpus_memory(visible, nvml) == free
    assert nvml.open == 0


def test_a_gpu_that_does_not_answer():
    nvml = Nvml({})
    with pytest.raises(WorkerError, match="does not say"):
        memory.gpus_memory("7", nvml)
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


def test_what_we_have_mapped_is_not_free(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_mapped", lambda: 0)
    free = memory.main_memory(tmp_path)
    monkeypatch.setattr(memory, "_mapped", lambda: free // 2)
    assert memory.main_memory(tmp_path) < free * 3 // 4
    monkeypatch.setattr(memory, "_mapped", lambda: 10 * free)
    assert memory.main_memory(tmp_path) == 0


def test_where_a_model_lives(tmp_path):
    assert memory.free_bytes(Options()) > 0


@pytest.mark.parametrize(
    ("split", "main_gpu", "free"),
    [((), None, 60), ((), 1, 20), ((1, 1), None, 40), ((2, 1), None, 60), ((4, 1), None, 50), ((1, 0), None, 40)],
)
def test_several_gpus_as_one_model_sees_them(split, main_gpu, free):
    assert memory.together((40, 20), split, main_gpu) == free


@pytest.mark.parametrize(("split", "main_gpu"), [((1, 1, 1), None), ((), 2)])
def test_a_gpu_that_is_not_there(split, main_gpu):
    with pytest.raises(WorkerError, match=r"the options name 3 GPUs .* and this worker sees 2"):
        memory.together((40, 20), split, main_gpu)


def test_a_containers_limit_is_all_the_memory_there_is(tmp_path: Path) -> None:
    whole = memory.whole_main_memory(tmp_path)
    (tmp_path / "memory.max").write_text("max")
    assert memory.whole_main_memory(tmp_path) == whole > 0
    (tmp_path / "memory.max").write_text("1048576")
    assert memory.whole_main_memory(tmp_path) == 1048576


def test_a_build_for_other_gpus_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = (BuildDevice(Build.METAL, 0, "Metal", "M4", free=6 * GB, total=8 * GB),)
    monkeypatch.setattr(builds, "shipped", lambda: frozenset({Build.METAL, Build.CPU}))
    monkeypatch.setattr(builds, "devices", lambda: (*cards, BuildDevice(Build.CPU, 0, "CPU", "")))
    assert memory.free_bytes(Options(cpu=False)) == 6 * GB
    assert memory.whole_bytes(Options(cpu=False)) == 8 * GB
    monkeypatch.setattr(builds, "devices", tuple)
    with pytest.raises(WorkerError, match="how much memory"):
        memory.free_bytes(Options(cpu=False))
    assert memory.whole_bytes(Options(cpu=False)) is None
