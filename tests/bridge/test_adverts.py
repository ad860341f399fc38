from __future__ import annotations

import json

from bridge.adverts import EVERY_S, Adverts, capacity_frame, models_frame, workers_frame
from bridge.fleet import Fleet
from tasks.figures import GpuFigures
from tests.bridge.builders import worker


def fleet() -> Fleet:
    made = Fleet()
    made.upsert(worker("w2", loaded=("m",), labels=("eu",), kids=("k",)), 0.0)
    made.upsert(worker("w1", loaded=(), installed=("m", "n"), slots_busy=9), 0.0)
    return made


def test_every_serving_process_is_a_worker() -> None:
    one, two = workers_frame(fleet()).workers
    assert (one.id, one.models, one.slots_busy, one.slots_total) == ("w1", ("m", "n"), 2, 2)
    assert (two.id, two.labels, two.kids, two.draining) == ("w2", ("eu",), ("k",), False)
    assert all(advert.draining for advert in workers_frame(fleet(), draining=True).workers)


def test_a_model_is_loaded_if_it_is_loaded_anywhere() -> None:
    assert [(model.id, model.loaded) for model in models_frame(fleet()).models] == [("m", True), ("n", False)]


def test_capacity_counts_slots_and_waiting_jobs() -> None:
    frame = capacity_frame(fleet(), waiting=3)
    assert (frame.slots_total, frame.slots_busy, frame.waiting) == (4, 2, 3)


def test_only_news_goes_out_and_not_too_often() -> None:
    adverts, view = Adverts(), fleet()

    def news(now: float, waiting: int = 0) -> list[str]:
        return [json.loads(t)["type"] for t in adverts.news(view, waiting=waiting, draining=False, now=now)]

    assert news(0.0) == ["workers", "models", "capacity", "keys"]
    assert news(1.0) == []
    assert news(2.0, waiting=1) == ["capacity"]
    assert news(2.0 + EVERY_S / 2, waiting=2) == []
    assert news(2.0 + EVERY_S, waiting=2) == ["capacity"]
    adverts.forget()
    assert len(news(2.0 + EVERY_S)) == 4


def test_each_worker_says_what_is_in_memory_and_how_fast_it_is() -> None:
    gpu = GpuFigures(uuid="GPU-1", name="H200", memory_used=5, memory_total=10)
    view = fleet()
    view.upsert(worker("w3", loaded=("m",), installed=("n",), gpu=(gpu,)), 0.0)
    frame = workers_frame(view, pace={"w3": 41.5, "w9": 1.0})
    assert [advert.tokens_per_second for advert in frame.workers] == [0.0, 0.0, 41.5]
    assert (frame.workers[2].models, frame.workers[2].loaded, frame.workers[2].gpu) == (("m", "n"), ("m",), (gpu,))
