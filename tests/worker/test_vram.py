"""Who holds the memory of our GPUs is found and named; a worker that outlived its supervisor most of all."""

from __future__ import annotations

import logging
import os

import pytest

from tests.fakes.nvml import Card, FakeNvml
from worker import vram
from worker.nvml import Gpu
from worker.vram import Held, Process

GPUS = (Gpu(0, "GPU-a", "H200"), Gpu(1, "GPU-b", "H200"))
MB = 1024**2
WORKER = ("/usr/bin/python", "-m", "worker.process")
PROCESSES = {
    7: Process("python", WORKER, ("/sbin/init",)),
    8: Process("python", WORKER, ("/usr/bin/python", "-m", "ops.cli", "worker")),
    9: Process("ollama", ("ollama", "runner", "--secret"), ("ollama", "serve")),
}


def held(*cards: Card, driver: bool = True) -> list[Held]:
    return vram.held(GPUS, FakeNvml(*cards, driver=driver), PROCESSES.get)


def test_orphans_first_and_everybody_by_name() -> None:
    rows = held(
        Card("GPU-a", processes=[(9, 5 * MB), (8, MB)]), Card("GPU-b", processes=[(7, 900 * MB), (1234, None)])
    )
    assert [(row.gpu, row.pid, row.name, row.orphan) for row in rows] == [
        ("gpu1", 7, "python", True),
        ("gpu0", 8, "python", False),
        ("gpu0", 9, "ollama", False),
        ("gpu1", 1234, "", False),
    ]
    words = [row.words for row in rows]
    assert words[0] == "gpu1: 900 MiB held by process 7, a worker whose supervisor died; end it: kill 7"
    assert words[3] == "gpu1: memory held by process 1234 (a process that cannot be seen from here)"
    assert "secret" not in str(rows)


def test_nobody_and_no_driver() -> None:
    assert held(Card("GPU-a"), Card("GPU-b")) == []
    assert held(driver=False) == []
    assert held(Card("GPU-a", lost=True), Card("GPU-b")) == []


def test_orphans_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pendra.devices"):
        vram.tell(held(Card("GPU-a", processes=[(7, MB), (9, MB)]), Card("GPU-b")))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_real_process_is_named() -> None:
    found = vram.process_of(os.getpid())
    assert found is not None
    assert "python" in found.name or "pytest" in found.name
    assert not found.orphan
    assert vram.process_of(2**22 + 1) is None
