"""Who computes on what: CPU sets do not overlap, every GPU gets a process, an operator's choice is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tests.fakes.nvml import Card, FakeNvml
from worker import devices
from worker.builds import Build, BuildDevice
from worker.devices import Gpu, Host, plan, shares, visible

GPUS = tuple(Gpu(n, f"GPU-{n}{n}{n}{n}-aaaa", "NVIDIA H200") for n in range(3))


@pytest.mark.parametrize("as_bytes", [False, True])
def test_nvml_lists_gpus(*, as_bytes: bool) -> None:
    nvml = FakeNvml(*(Card(gpu.uuid, gpu.name, near=()) for gpu in GPUS), as_bytes=as_bytes)
    assert devices.nvidia_gpus(nvml) == GPUS
    assert nvml.open == 0


def test_no_driver_means_no_gpus() -> None:
    assert devices.nvidia_gpus(FakeNvml(driver=False)) == ()


def test_a_gpu_that_is_lost_takes_nobody_with_it() -> None:
    nvml = FakeNvml(Card("GPU-0"), Card("GPU-1", lost=True), Card("GPU-2"))
    found = devices.nvidia_gpus(nvml)
    assert [(gpu.label, gpu.uuid) for gpu in found] == [("gpu0", "GPU-0"), ("gpu2", "GPU-2")]
    assert nvml.open == 0


def test_one_process_per_gpu() -> None:
    planned = plan(Host(cpus=tuple(range(32)), gpus=GPUS))
    assert [d.label for d in planned] == ["gpu0", "gpu1", "gpu2"]
    assert [d.gpu for d in planned] == list(GPUS)
    assert all(d.cpus == () for d in planned)


def test_asked_for_more_workers_gpus_are_shared_in_turn() -> None:
    planned = plan(Host(cpus=(0, 1), gpus=GPUS[:2]), workers=3)
    assert [(d.label, d.gpu.index if d.gpu else None) for d in planned] == [("gpu0", 0), ("gpu1", 1), ("gpu0x1", 0)]


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


# ------------------------------------------------------------------ groups, MIG, other builds, NUMA


def test_a_group_is_one_process_and_the_rest_have_one_each() -> None:
    planned = plan(Host(cpus=tuple(range(32)), gpus=GPUS), groups=[("1", GPUS[2].uuid)])
    assert [(d.label, d.env) for d in planned] == [
        ("gpu0", (("CUDA_VISIBLE_DEVICES", GPUS[0].uuid),)),
        ("gpu1-2", (("CUDA_VISIBLE_DEVICES", f"{GPUS[1].uuid},{GPUS[2].uuid}"),)),
    ]
    assert planned[1].name == "2 × NVIDIA H200"


@pytest.mark.parametrize(
    ("gpus", "groups", "words"),
    [
        (GPUS, [("7",)], "GPU 7, which is not here"),
        ((), [("0", "1")], "usable GPUs: none"),
        (GPUS, [("0",), (GPUS[0].uuid,)], "twice"),
        ((Gpu(0, "MIG-a", "H200 MIG", mig=0),), [("0",)], "MIG mode"),
    ],
)
def test_a_group_that_cannot_be(gpus: tuple[Gpu, ...], groups: list[tuple[str, ...]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(Host(cpus=(0,), gpus=gpus), groups=groups)


def test_mig_instances_have_a_process_each() -> None:
    slices = tuple(Gpu(0, f"MIG-{n}", "H200 MIG 1g", mig=n) for n in range(2))
    planned = plan(Host(cpus=(0, 1), gpus=(*slices, GPUS[1])))
    assert [d.label for d in planned] == ["gpu0m0", "gpu0m1", "gpu1"]
    assert planned[1].env == (("CUDA_VISIBLE_DEVICES", "MIG-1"),)


def test_a_gpus_process_runs_on_the_cpus_beside_it() -> None:
    near = Gpu(0, "GPU-a", "H200", cpus=(4, 5, 6, 7, 99))
    assert plan(Host(cpus=tuple(range(8)), gpus=(near,)))[0].cpus == (4, 5, 6, 7)
    assert plan(Host(cpus=(4, 5), gpus=(near,)))[0].cpus == (), "all we have is near"
    assert plan(Host(cpus=(0, 1), gpus=(near,)))[0].cpus == (), "nothing we have is near"


@pytest.mark.parametrize(
    ("build", "env"),
    [
        (Build.ROCM, (("HIP_VISIBLE_DEVICES", "1"),)),
        (Build.VULKAN, (("GGML_VK_VISIBLE_DEVICES", "1"),)),
        (Build.METAL, ()),
    ],
)
def test_devices_of_other_builds(build: Build, env: tuple[tuple[str, str], ...]) -> None:
    host = Host(cpus=(0, 1), others=tuple(BuildDevice(build, n, f"dev{n}", "a card") for n in range(2)))
    planned = plan(host)
    assert [(d.label, d.name, d.gpus) for d in planned] == [("gpu0", "a card", ()), ("gpu1", "a card", ())]
    assert planned[1].env == env


def test_cpu_workers_stay_on_their_numa_node() -> None:
    host = Host(cpus=(0, 1, 2, 3, 4, 5), nodes=((0, 2, 4), (1, 3, 5)))
    assert [d.cpus for d in plan(host, workers=2)] == [(0, 2, 4), (1, 3, 5)]
    assert [d.cpus for d in plan(host, workers=3)] == [(0, 2), (4,), (1, 3, 5)]
    assert [d.cpus for d in plan(host)] == [(0, 1, 2, 3, 4, 5)]


def test_numa_nodes_as_linux_lists_them(tmp_path: Path) -> None:
    for node, cpus in (("node0", "0-2,8"), ("node1", "3\n"), ("node10", "")):
        (tmp_path / node).mkdir()
        (tmp_path / node / "cpulist").write_text(cpus)
    assert devices.numa_nodes(tmp_path) == ((0, 1, 2, 8), (3,), ())
    assert devices.numa_nodes(tmp_path / "nowhere") == ()


def test_a_build_for_something_else_chooses_its_devices_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    other = (BuildDevice(Build.VULKAN, 0, "Vulkan0", "a card"),)
    monkeypatch.setattr(devices, "nvidia_gpus", lambda: GPUS)
    monkeypatch.setattr(devices, "other_devices", lambda: other)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    host = devices.probe()
    assert (host.gpus, host.others) == ((), other)
