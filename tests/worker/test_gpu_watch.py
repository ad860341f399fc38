"""A GPU that falls off the bus ends its own process, after a goodbye; one that is just busy does not."""

from __future__ import annotations

import pytest

from tasks.errors import ConfigError
from tests.fakes.nvml import Card, FakeNvml
from worker.gpu_watch import EX_GPU_LOST, GpuWatch, check, named

A, B = "GPU-aaaa-1", "GPU-bbbb-2"


class Ended:
    """What happened, in order."""

    def __init__(self, *names: str, nvml: FakeNvml) -> None:
        self.log: list[object] = []
        self.watch = GpuWatch(names, lambda: self.log.append("goodbye"), nvml=nvml, end=self.log.append)

    def run(self) -> list[object]:
        self.watch.start()
        self.watch._thread.join(30)
        return self.log


def test_the_names_that_cuda_is_given() -> None:
    assert named("GPU-a, GPU-b") == ("GPU-a", "GPU-b")
    assert named("") == named(None) == ()


def test_figures_of_our_gpus_only() -> None:
    fake = FakeNvml(Card(A), Card(B, celsius=80))
    watch = Ended(B, nvml=fake).watch
    assert watch.figures == ()
    assert not watch.look(fake)
    assert [(one.uuid, one.temperature_c) for one in watch.figures] == [(B, 80)]


def test_a_lost_gpu_ends_its_process_after_a_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.gpu_watch.LOOK_S", 0.0)
    fake = FakeNvml(Card(A, lost=True), Card(B))
    assert Ended(A, nvml=fake).run() == ["goodbye", EX_GPU_LOST]
    assert fake.open == 0


def test_its_siblings_go_on() -> None:
    fake = FakeNvml(Card(A), Card(B))
    mine, sibling = Ended(A, nvml=fake).watch, Ended(B, nvml=fake).watch
    fake.cards[0].lost = True
    assert [mine.look(fake), mine.look(fake)] == [False, True]
    assert [sibling.look(fake), sibling.look(fake)] == [False, False]


def test_one_bad_look_is_forgiven() -> None:
    fake = FakeNvml(Card(A))
    watch = Ended(A, nvml=fake).watch
    for lost in (True, False, True, False):
        fake.cards[0].lost = lost
        assert not watch.look(fake)


def test_a_process_of_a_group_ends_with_any_of_its_gpus() -> None:
    fake = FakeNvml(Card(A), Card(B, lost=True))
    watch = Ended(A, B, nvml=fake).watch
    assert [watch.look(fake), watch.look(fake)] == [False, True]


def test_without_gpus_nothing_is_watched() -> None:
    watch = GpuWatch((), lambda: None, nvml=FakeNvml())
    watch.start()
    assert not watch._thread.is_alive()
    watch.stop()


def test_a_process_does_not_start_without_its_gpu() -> None:
    check((), FakeNvml(driver=False))
    check((A,), FakeNvml(Card(A)))
    with pytest.raises(ConfigError, match=r"GPU-aaaa-1 does not answer.*dmesg"):
        check((A,), FakeNvml(Card(A, lost=True)))
    with pytest.raises(ConfigError, match="driver does not answer"):
        check((A,), FakeNvml(driver=False))
