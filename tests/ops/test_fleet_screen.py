"""What `pendra top` draws, read back from a console that captures it."""

from __future__ import annotations

import io

from rich.console import Console

from ops.fleet_reading import Reading
from ops.fleet_screen import MOST_JOBS, meter, screen, sparkline
from tasks.contract import JobRow, ModelInfo, Overview
from tasks.figures import EngineFigures, GpuFigures
from tests.ops.test_fleet_reading import worker

GPU = GpuFigures(
    uuid="GPU-1", memory_used=70_000_000_000, memory_total=141_000_000_000, temperature_c=61.4, power_w=402.2,
    utilisation=0.93, ecc_errors=2,
)  # fmt: skip


def drawn(reading: Reading, past: tuple[float, ...] = (), note: str = "") -> list[str]:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(screen(reading, past, note))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_workers_slots_models_queue_and_speed() -> None:
    engine = EngineFigures(model="m", kv_cells_used=256, kv_cells_total=1024)
    one = worker("wrk-a-gpu0", slots_busy=3, models=(ModelInfo(id="m", loaded=True),), gpu=(GPU,), engines=(engine,))
    two = worker("wrk-b-cpu0", draining=True)
    job = JobRow(job_id="req_1", model="m", state="running", worker_id="wrk-a-gpu0", age_s=2.5, tokens=17)
    bridge = Overview(bridge_id="b", total=1, rows=(job,), waiting=4, pace={"wrk-a-gpu0": 85.4})
    lines = drawn(Reading(0.0, (one, two), (bridge,)), past=(0.0, 85.4))
    assert "2 workers on 2 hosts · 3/8 slots · 4 waiting · 85 tokens/s · 1 bridge  ▁█" in lines[0]
    first, second = (next(line for line in lines if line.startswith(name)) for name in ("wrk-a-gpu0", "wrk-b-cpu0"))
    for words in ("████████░░ 3/4", "85", "25 %", "70.0/141 GB 93 % 61 °C 402 W 2 ECC!", "serving"):
        assert words in first
    assert "draining" in second
    assert next(line for line in lines if line.startswith("m ")).split()[-6:] == ["1", "of", "1", "worker", "1", "0"]
    assert lines[-1].split() == ["req_1", "m", "running", "wrk-a-gpu0", "2.5", "s", "17"]


def test_nobody_is_there() -> None:
    lines = drawn(Reading(0.0, (), ()))
    assert "0 workers on 0 hosts · 0/0 slots" in lines[0]
    assert "pendra worker" in lines[-1]


def test_a_long_queue_is_cut_and_counted() -> None:
    rows = tuple(JobRow(job_id=f"r{n}", model="m", state="waiting") for n in range(MOST_JOBS + 3))
    lines = drawn(Reading(0.0, (worker("w"),), (Overview(bridge_id="b", total=len(rows), rows=rows),)))
    assert lines[-1].startswith("… and 3 more")


def test_what_is_wrong_is_said() -> None:
    assert drawn(Reading(0.0, (), ()), note="Redis does not answer")[1] == "Redis does not answer"


def test_small_pictures() -> None:
    assert sparkline([0, 5, 10]) == "▁▅█"
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([]) == ""
    assert str(meter(0, 0)) == "░░░░░░░░░░ 0/0"
