"""Tests on NVIDIA hardware: `python -m pytest tests/gpu`. Where there is none they are left out, with the reason.

Left out rather than skipped: CI has no GPU, and a skip that is always there hides the ones that matter.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.devices import nvidia_gpus
from worker.nvml import Gpu

HERE = Path(__file__).parent
GPUS = nvidia_gpus()
WHY = "no NVIDIA GPU answers here (no driver, no card, or a container without --gpus all)"

collect_ignore_glob = [] if GPUS else ["test_*.py"]


def pytest_report_header() -> str | None:
    return None if GPUS else f"tests/gpu: left out, {WHY}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def gpus() -> tuple[Gpu, ...]:
    return GPUS
