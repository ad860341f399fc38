"""The heartbeat's figures: engines as they are, loads counted by how they ended."""

from __future__ import annotations

from tasks.errors import WorkerError
from tasks.figures import EngineFigures, LoadFigures
from worker.engine.api import EngineStats
from worker.figures import LoadCounts, engine_figures


def test_an_engine_is_told_in_all_its_figures():
    stats = EngineStats(8, 3, 2, 100, 4096, 17, 50, 20, 30, 9, 4)
    (row,) = engine_figures({"m": stats})
    assert row == EngineFigures(
        model="m",
        slots_total=8,
        slots_busy=3,
        waiting=2,
        kv_cells_used=100,
        kv_cells_total=4096,
        steps=17,
        prompt_tokens=50,
        cached_tokens=20,
        completion_tokens=30,
        drafted_tokens=9,
        accepted_tokens=4,
    )


def test_loads_are_counted_by_model_and_cause():
    loads = LoadCounts()
    loads.ended("m", None, 1.5)
    loads.ended("m", None, 0.5)
    loads.ended("m", WorkerError("no", code="out_of_memory"), 0.25)
    assert loads.figures() == (
        LoadFigures(model="m", outcome="ok", count=2, seconds=2.0),
        LoadFigures(model="m", outcome="out_of_memory", count=1, seconds=0.25),
    )
