"""Models spread by demand: a popular one gets more workers, the idlest makes room, and only where it fits."""

from __future__ import annotations

from bridge.fleet import Fleet
from bridge.placement import Need, plan, refusal
from tasks.contract import ModelInfo, WorkerInfo
from tests.bridge.builders import worker

POPULAR, RARE = Need("popular"), Need("rare")


def models(*names: str, loaded: tuple[str, ...] = (), small: tuple[str, ...] = ()) -> tuple[ModelInfo, ...]:
    return tuple(ModelInfo(id=name, loaded=name in loaded, fits=name not in small) for name in names)


def both(worker_id: str, loaded: str = "", *, small: tuple[str, ...] = (), slots: int = 2) -> WorkerInfo:
    return worker(worker_id, slots=slots, models=models("popular", "rare", loaded=(loaded,), small=small))


def fleet(*workers: WorkerInfo) -> Fleet:
    made = Fleet()
    for info in workers:
        made.upsert(info, 0.0)
    return made


def send(need: Need, to: Fleet, count: int, after: int = 0) -> list[str]:
    """Where `count` jobs went that all run on; "" = it waits."""
    went = []
    for number in range(count):
        found = plan(need, to)
        went.append(found.candidates[0][0] if found else "")
        if found:
            to.hold(f"{need.model}-{after + number}", went[-1], need.model)
    return went


def beat(to: Fleet, *infos: WorkerInfo) -> None:
    for info in infos:
        to.upsert(info, 1.0)


def test_a_popular_model_takes_one_worker_after_the_other() -> None:
    view = fleet(both("w1", "popular"), both("w2"), both("w3"))
    assert send(POPULAR, view, 4) == ["w1", "w1", "w2", "w2"]
    assert send(POPULAR, view, 1, after=4) == [""], "w2 still loads; one burst does not load it everywhere"
    beat(view, both("w2", "popular"))
    assert send(POPULAR, view, 2, after=5) == ["w3", "w3"]


def test_demand_that_one_worker_can_meet_stays_there() -> None:
    view = fleet(both("w1", "popular"), both("w2"), both("w3"))
    assert send(POPULAR, view, 2) == ["w1", "w1"]


def test_the_worker_whose_model_was_unused_for_longest_makes_room() -> None:
    view = fleet(both("w1", "popular"), both("w2", "rare"), both("w3", "rare"))
    view.hold("old", "w2", "rare")
    view.drop("old")
    view.hold("older-than-nothing", "w3", "rare")
    view.drop("older-than-nothing")
    view.hold("again", "w2", "rare")
    view.drop("again")
    assert send(POPULAR, view, 3)[2] == "w3", "w2 ran its model later"


def test_an_empty_worker_is_taken_before_one_whose_model_would_go() -> None:
    view = fleet(both("w1", "popular"), both("w2", "rare"), both("w3"))
    assert send(POPULAR, view, 3)[2] == "w3"


def test_a_busy_workers_model_stays() -> None:
    view = fleet(both("w1", "popular"), both("w2", "rare"))
    view.hold("r", "w2", "rare")
    assert send(POPULAR, view, 3) == ["w1", "w1", ""]


def test_only_workers_with_the_memory_load_it() -> None:
    view = fleet(both("w1", "popular"), both("w2", small=("popular",)), both("w3"))
    assert send(POPULAR, view, 4) == ["w1", "w1", "w3", "w3"]
    assert send(RARE, fleet(both("w2", small=("popular",))), 1) == ["w2"]


def test_what_is_loaded_fits_whatever_was_estimated() -> None:
    assert send(POPULAR, fleet(both("w1", "popular", small=("popular",))), 1) == ["w1"]


def test_nowhere_large_enough_is_told_at_once() -> None:
    view = fleet(both("w1", small=("popular",)), both("w2", small=("popular",)))
    refused = refusal(POPULAR, view)
    assert refused is not None
    assert refused.code == "out_of_memory"
    pinned = refusal(Need("popular", pin="w1"), view)
    assert pinned is not None
    assert pinned.code == "out_of_memory"
    assert refusal(RARE, view) is None
