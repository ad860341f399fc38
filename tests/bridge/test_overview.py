"""The overview: where each job is, and nothing of what it is about."""

from __future__ import annotations

import pytest

from bridge import overview as module
from tasks.figures import EngineFigures
from tests.bridge.builders import Driven, chunk, job, worker


def test_running_and_waiting_jobs_with_attempt_worker_and_age() -> None:
    driven = Driven(worker(slots=1))
    driven.start("runs", body={"messages": ["secret"]})
    driven.events(chunk(1, "secret", "runs"), chunk(2, "secret", "runs"))
    driven.send(job("waits"))
    driven.now += 2
    view = driven.session.readings.overview(driven.now)
    runs, waits = view.rows
    assert (runs.job_id, runs.state, runs.attempt, runs.worker_id, runs.tokens) == ("runs", "running", 0, "w1", 2)
    assert (waits.job_id, waits.state, waits.worker_id, waits.age_s) == ("waits", "waiting", "", 2.0)
    assert "secret" not in view.model_dump_json()


def test_a_long_list_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    driven = Driven(worker(slots=1))
    for n in range(5):
        driven.send(job(f"j{n}"))
    view = driven.session.readings.overview(driven.now)
    assert ([row.job_id for row in view.rows], view.total) == (["j0", "j1"], 5)


def test_the_queue_and_the_tokens_a_second_of_each_worker() -> None:
    driven = Driven()
    for made in (100, 110, 120):
        driven.now += 1
        driven.beat(worker(slots=1, engines=(EngineFigures(model="m", completion_tokens=made),)))
    driven.start("runs")
    driven.send(job("waits"))
    view = driven.session.readings.overview(driven.now)
    assert (view.waiting, view.pace) == (1, {"w1": 10.0})
    driven.frames.clear()
    driven.tick(0.3)
    adverts = {frame["type"]: frame for frame in driven.frames}
    assert adverts["workers"]["workers"][0]["tokens_per_second"] == 10.0
