"""Families of many workers and odd models stay bounded; what a GPU does not say has no series."""

from __future__ import annotations

from bridge.metrics.families import look
from bridge.metrics.tally import Counts, Tally
from bridge.metrics.workers import MOST_WORKERS, worker_families
from tasks.contract import WorkerInfo
from tasks.figures import GpuFigures
from tests.bridge.builders import Driven, job, worker


def page(driven: Driven, tally: Tally | None = None):
    tally = tally or Tally()
    tally.served = driven.session.readings.serves
    seen = look(driven.session.readings.picture(driven.now), Counts(), tally.model, "1")
    return {family.name: family for family in worker_families(seen)}


def test_without_workers_there_is_a_zero_to_alert_on():
    (worker_row, proxy_row) = sorted(page(Driven())["pendra_workers"].samples, key=lambda s: s.labels["role"])[::-1]
    assert (worker_row.labels["role"], worker_row.value, proxy_row.value) == ("worker", 0, 0)


def test_beyond_the_bound_only_totals_count_workers():
    driven = Driven(*(worker(f"w{number:04}") for number in range(MOST_WORKERS + 3)))
    found = page(driven)
    assert len(found["pendra_worker_slots"].samples) == MOST_WORKERS
    assert max(sample.value for sample in found["pendra_workers"].samples) == MOST_WORKERS + 3


def test_what_a_device_does_not_say_has_no_series():
    info: WorkerInfo = worker(gpu=(GpuFigures(uuid="GPU-1", temperature_c=50.0),))
    found = page(Driven(info))
    assert len(found["pendra_gpu_temperature_celsius"].samples) == 1
    assert found["pendra_gpu_power_watts"].samples == []


def test_who_waits_for_models_beyond_the_bound_waits_for_other():
    tally = Tally()
    tally.served = lambda _: True
    for number in range(100):
        tally.model(f"x{number}")
    driven = Driven(worker(slots=1))
    driven.send(job("a"))
    driven.send(job("b"))
    driven.now += 7.0
    seen = look(driven.session.readings.picture(driven.now), Counts(), tally.model, "1")
    assert list(seen.waiting) == ["other"]
    assert seen.having == {"other": 1}
