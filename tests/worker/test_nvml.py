"""What the driver says, from a driver of our own."""

from __future__ import annotations

import pytest

from tasks.figures import GpuFigures
from tests.fakes.nvml import Card, FakeNvml, NVMLError
from worker import nvml
from worker.nvml import Gpu, Holder

A, B = "GPU-aaaa-1", "GPU-bbbb-2"


@pytest.mark.parametrize("as_bytes", [False, True])
def test_gpus_with_the_cpus_beside_them(*, as_bytes: bool) -> None:
    fake = FakeNvml(Card(A), Card(B, near=(0, 0b11)), as_bytes=as_bytes)
    with nvml.opened(fake) as module:
        found = nvml.gpus(module)
    assert found == (
        Gpu(0, A, "NVIDIA H200", cpus=(0, 1, 2, 3)),
        Gpu(1, B, "NVIDIA H200", cpus=(64, 65)),
    )
    assert fake.open == 0


def test_without_a_driver_there_is_nothing_to_ask() -> None:
    with nvml.opened(FakeNvml(driver=False)) as module:
        assert module is None


def test_a_gpu_in_mig_mode_is_its_instances() -> None:
    slices = [Card(f"MIG-{n}", "NVIDIA H200 MIG 1g.18gb", instance=True) for n in range(2)]
    found = nvml.gpus(FakeNvml(Card(A, mig=slices), Card(B)))
    assert [(gpu.label, gpu.uuid) for gpu in found] == [("gpu0m0", "MIG-0"), ("gpu0m1", "MIG-1"), ("gpu1", B)]


def test_a_lost_gpu_is_left_out_and_the_others_are_not() -> None:
    assert [gpu.uuid for gpu in nvml.gpus(FakeNvml(Card(A, lost=True), Card(B)))] == [B]


def test_figures_in_their_units() -> None:
    card = Card(A, used=5, total=10, ecc=2)
    assert nvml.figures(FakeNvml(card), card) == GpuFigures(
        uuid=A,
        name="NVIDIA H200",
        memory_used=5,
        memory_total=10,
        temperature_c=41,
        power_w=350.0,
        utilisation=0.7,
        ecc_errors=2,
    )


def test_what_a_device_does_not_measure_is_left_open() -> None:
    instance = Card("MIG-0", instance=True)
    found = nvml.figures(FakeNvml(Card(A, mig=[instance])), instance)
    assert found.memory_total == 140 << 30
    assert (found.temperature_c, found.power_w, found.utilisation, found.ecc_errors) == (None, None, None, None)
    assert nvml.figures(FakeNvml(), Card(A, ecc=None)).ecc_errors is None


def test_a_lost_gpu_is_told_from_one_that_cannot_say() -> None:
    fake = FakeNvml(Card(A, lost=True))
    with pytest.raises(NVMLError) as lost:
        nvml.figures(fake, fake.cards[0])
    assert nvml.is_lost(fake, lost.value)
    assert not nvml.is_lost(fake, NVMLError(3))


def test_who_holds_memory() -> None:
    fake = FakeNvml(Card(A, processes=[(7, 1024), (8, None)]), Card(B))
    assert nvml.holders(fake, (A, "1")) == (Holder(7, A, 1024), Holder(8, A, None))
