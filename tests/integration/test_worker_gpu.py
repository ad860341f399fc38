"""Two serving processes on two GPUs of a fake driver: figures in the heartbeats, and one GPU falls off the bus."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.waiting import PATIENCE_S, until
from tests.integration.worker_fleet import ROOT, Fleet
from worker.gpu_watch import EX_GPU_LOST
from worker.process import EX_CONFIG

pytestmark = pytest.mark.integration
DRIVER = ROOT / "tests" / "fakes" / "nvml_on_path"


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """Write the UUID of a GPU into it, and the GPU is gone."""
    return tmp_path / "lost"


@contextmanager
def on_gpu(
    redis_url: str, home: Path, lost: Path, child_id: str, uuid: str
) -> Iterator[tuple[Fleet, subprocess.Popen]]:
    env = {
        "PYTHONPATH": str(DRIVER),
        "TEST_LOST_GPUS": str(lost),
        "CUDA_VISIBLE_DEVICES": uuid,
        "PENDRA_DEVICE": "gpu0",
    }
    fleet = Fleet(redis_url, home)
    argv = (sys.executable, "-c", _START.format(env=env))
    try:
        with fleet.worker(child_id, argv=argv) as process:
            yield fleet, process
    finally:
        fleet.close()


_START = """import os, sys
os.environ.update({env})
sys.path.insert(0, os.environ["PYTHONPATH"])
from tests.fakes.worker_child import main
sys.exit(main())
"""


def test_a_gpu_that_falls_off_the_bus_takes_only_its_own_worker_down(
    redis_url: str, tmp_path: Path, lost: Path
) -> None:
    with (
        on_gpu(redis_url, tmp_path, lost, "w1", "GPU-aaaa") as (fleet, first),
        on_gpu(redis_url, tmp_path, lost, "w2", "GPU-bbbb") as (other, second),
    ):
        until(lambda: bool(fleet.info("w1") and fleet.info("w1").gpu), every_s=0.05)
        assert [(one.uuid, one.temperature_c, one.ecc_errors) for one in fleet.info("w1").gpu] == [
            ("GPU-aaaa", 41, 0)
        ]
        lost.write_text("GPU-aaaa")
        assert first.wait(PATIENCE_S) == EX_GPU_LOST
        assert "gpu.lost" in fleet.log("w1").read_text()
        until(lambda: fleet.info("w1") is None, every_s=0.05)  # it said goodbye
        assert second.poll() is None
        until(lambda: other.info("w2") is not None, every_s=0.05)


def test_a_worker_does_not_start_on_the_cpu_instead(redis_url: str, tmp_path: Path, lost: Path) -> None:
    lost.write_text("GPU-aaaa")
    fleet = Fleet(redis_url, tmp_path)
    env = fleet.env("w1", 1) | {"PENDRA_DEVICE": "gpu0", "CUDA_VISIBLE_DEVICES": "GPU-aaaa"}
    env |= {"PYTHONPATH": f"{DRIVER}:{ROOT}", "TEST_LOST_GPUS": str(lost)}
    argv = [sys.executable, "-m", "worker.process"]
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    fleet.close()
    assert done.returncode == EX_CONFIG
    assert "GPU-aaaa does not answer" in done.stderr
