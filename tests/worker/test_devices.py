"""Who computes on what: CPU sets do not overlap, every GPU gets a process, an operator's choice is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from worker import devices
from worker.devices import Gpu, Host, plan, shares, visible

GPUS = tuple(Gpu(n, f"GPU-{n}{n}{n}{n}-aaaa", "NVIDIA H200") for n in range(3))


class FakeNvml:
    """pynvml with three GPUs; `broken` fails where a lost GPU does."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, driver: bool = True, broken: bool = False, as_bytes: bool = False) -> None:
        self.driver, self.broken, self.as_bytes = driver, broken, as_bytes
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802  # NVML's name
        if not self.driver:
            raise self.NVMLError
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802  # NVML's name
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802  # NVML's name
        return len(GPUS)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802  # NVML's name
        return number

    def nvmlDeviceGetUUID(self, handle: int) -> str | bytes:  # noqa: N802  # NVML's name
        if self.broken and handle == 1:
            raise self.NVMLError
        return GPUS[handle].uuid.encode() if self.as_bytes else GPUS[handle].uuid

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:  # noqa: N802  # NVML's name
        return GPUS[handle].name.encode() if self.as_bytes else GPUS[handle].name


@pytest.mark.parametrize("as_bytes", [False, True])
def test_nvml_lists_gpus(*, as_bytes: bool) -> None:
    nvml = FakeNvml(as_bytes=as_bytes)
    assert devices.nvidia_gpus(nvml) == GPUS
    assert nvml.open == 0


def test_no_driver_means_no_gpus() -> None:
    assert devices.nvidia_gpus(FakeNvml(driver=False)) == ()


def test_a_gpu_that_fails_is_not_guessed_around() -> None:
    nvml = FakeNvml(broken=True)
    assert devices.nvidia_gpus(nvml) == ()
    assert nvml.open == 0


def test_one_process_per_gpu() -> None:
    planned = plan(Host(cpus=tuple(range(32)), gpus=GPUS))
    assert [d.label for d in planned] == ["gpu0", "gpu1", "gpu2"]
    assert [d.gpu for d in planned] == list(GPUS)
    assert all(d.cpus == () for d in planned)


def test_asked_for_more_workers_gpus_are_shared_in_turn() -> None:
    planned = plan(Host(cpus=(0, 1), gpus=GPUS[:2]), workers=3)
    assert [(d.label, d.gpu.index if d.gpu else None) for d in planned] == [("gpu0", 0), ("gpu1", 1), ("gpu2", 0)]


def test_without_a_gpu_one_process_has_every_cpu() -> None:
    (only,) = plan(Host(cpus=(0, 1, 2, 3)))
    assert (only.label, only.cpus, only.threads, only.gpu) == ("cpu0", (0, 1, 2, 3), 4, None)


def test_cpu_sets_are_disjoint_and_use_every_cpu() -> None:
    planned = plan(Host(cpus=(2, 3, 5, 7, 8)), workers=2)
    assert [d.cpus for d in planned] == [(2, 3), (5, 7, 8)] or [d.cpus for d in planned] == [(2, 3, 5), (7, 8)]
    assert [d.threads for d in planned] == [len(d.cpus) for d in planned]


@pytest.mark.parametrize("count", range(1, 9))
def test_shares_cover_everything_once(count: int) -> None:
    cpus = tuple(range(8))
    split = shares(cpus, count)
    assert sorted(cpu for share in split for cpu in share) == list(cpus)
    assert max(map(len, split)) - min(map(len, split)) <= 1


def test_more_workers_than_cpus_share_them() -> None:
    assert shares((0, 1), 3) == [(0,), (1,), (0,)]


def test_a_containers_cpu_limit_bounds_the_threads() -> None:
    assert [d.threads for d in plan(Host(cpus=tuple(range(64)), quota=3.5))] == [4]
    assert [d.threads for d in plan(Host(cpus=tuple(range(64)), quota=4.0), workers=2)] == [2, 2]
    assert [d.threads for d in plan(Host(cpus=(0, 1), quota=0.5))] == [1]


@pytest.mark.parametrize("workers", [0, -1, 65])
def test_a_silly_number_of_workers_is_refused(workers: int) -> None:
    with pytest.raises(ConfigError, match=str(workers)):
        plan(Host(cpus=(0,)), workers)


@pytest.mark.parametrize(
    ("chosen", "indexes"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        ("GPU-1111", [1]),
        ("1,9,0", [1]),
        (" 0 , GPU-2222-aaaa", [0, 2]),
    ],
)
def test_a_choice_made_for_cuda_is_kept(chosen: str | None, indexes: list[int]) -> None:
    assert [gpu.index for gpu in visible(GPUS, chosen)] == indexes


@pytest.mark.parametrize(
    ("text", "cpus"), [("max 100000", None), ("150000 100000", 1.5), ("nonsense", None), (None, None)]
)
def test_cpu_quota(tmp_path: Path, text: str | None, cpus: float | None) -> None:
    path = tmp_path / "cpu.max"
    if text is not None:
        path.write_text(text)
    assert devices.cpu_quota(path) == cpus


def test_a_gpu_without_a_cuda_build_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "nvidia_gpus", lambda: GPUS)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "llama_uses_gpus", lambda: False)
    assert devices.probe().gpus == ()
    monkeypatch.setattr(devices, "llama_uses_gpus", lambda: True)
    assert devices.probe().gpus == GPUS
