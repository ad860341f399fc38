"""Jobs that are over before their worker has stopped: it frees the slot, or the bridge does, or its successor."""

from __future__ import annotations

import pytest

from bridge.effects import CancelOnWorker, Forget, Heal, Release, Remember
from bridge.fleet import Gone
from bridge.jobs import JobRecord
from bridge.loose_ends import LOOSE_S, LooseEnds, tie_up
from bridge.protocol import Cancel
from tests.bridge.builders import WALL, Driven, chunk, failed, job, worker
from tests.bridge.succession import acquires, running


def record(job_id: str, worker_id: str = "w1") -> JobRecord:
    return JobRecord(job(job_id), arrived=0.0, worker_id=worker_id)


def test_each_is_written_down_as_over_until_its_worker_has_freed_it() -> None:
    ends = LooseEnds()
    (noted,) = ends.add(record("a"), 0.0)
    assert isinstance(noted, Remember)
    assert (noted.entry.id, noted.entry.over) == ("a", True)
    assert ends.freed(record("b")) == [], "it was not one of them"
    assert ends.freed(record("a")) == [Forget("a")]
    assert ends.tie_up_due(LOOSE_S) == []


def test_those_whose_worker_had_its_time_are_tied_up_in_order() -> None:
    ends = LooseEnds()
    for n, job_id in enumerate(("a", "b", "c")):
        ends.add(record(job_id), float(n))
    assert ends.tie_up_due(1.0 + LOOSE_S) == [*tie_up("a", 0), *tie_up("b", 0)]
    assert len(ends) == 1


def test_those_of_a_worker_that_is_gone_are_tied_up_at_once() -> None:
    ends = LooseEnds()
    for job_id, worker_id in (("a", "w1"), ("b", "w2"), ("c", "w1")):
        ends.add(record(job_id, worker_id), 0.0)
    assert ends.tie_up_of("w1") == [*tie_up("a", 0), *tie_up("c", 0)]
    assert len(ends) == 1


def test_a_job_that_its_worker_has_still_to_stop_is_written_down_as_over() -> None:
    driven = Driven(worker("w1"))
    driven.start()
    driven.send(Cancel(job_id="j1"))
    entry = driven.registry["j1"]
    assert (entry.over, entry.attempt, entry.frame.body) == (True, 0, {})
    driven.clear()
    driven.tick(LOOSE_S + 0.1, worker("w1"))
    assert driven.effects == [Release("j1", 0)], "should its worker not have done it"
    assert not driven.registry


def test_its_worker_says_when_it_has_stopped() -> None:
    driven = Driven(worker("w1"))
    driven.start()
    driven.send(Cancel(job_id="j1"))
    driven.clear()
    driven.events(chunk(1, "a", tokens=(5,)))
    assert driven.registry
    driven.events(failed(2, code="cancelled"))
    assert not driven.registry
    driven.tick(LOOSE_S + 0.1, worker("w1"))
    assert not driven.effects


def test_when_the_worker_of_such_a_job_is_gone_its_slot_is_freed_at_once() -> None:
    driven = Driven(worker("w1"))
    driven.start()
    driven.send(Cancel(job_id="j1"))
    driven.clear()
    driven.do(driven.session.fleet_news(Gone("w1"), driven.now))
    assert driven.effects == [Release("j1", 0)]
    assert not driven.registry
    driven.tick(LOOSE_S + 0.1)
    assert driven.effects.count(Release("j1", 0)) == 1


def test_while_redis_is_away_it_waits() -> None:
    driven = Driven(worker("w1"))
    driven.start()
    driven.send(Cancel(job_id="j1"))
    driven.session.redis_lost(driven.now)
    driven.clear()
    driven.tick(LOOSE_S + 1, silent=True)
    assert not driven.effects
    driven.do(driven.session.redis_back(driven.now, data_lost=False))
    driven.tick(0.1)
    assert driven.effects == [Release("j1", 0)]


def test_a_deadline_that_ends_a_running_job_leaves_it_loose_too_but_not_its_own_end() -> None:
    driven = Driven(worker("w1"))
    driven.start("j1", deadline=WALL + driven.now + 2)
    driven.start("j2")
    driven.tick(2.1, worker("w1"))
    driven.events(failed(1, "j2"))
    assert [entry.over for entry in driven.registry.values()] == [True]


@pytest.mark.parametrize("holder", ["w1", ""])
def test_a_successor_stops_what_is_over_and_frees_its_slot(holder: str) -> None:
    succession = running()
    succession.old.send(Cancel(job_id="j1"))
    new = succession.successor(worker(), holders={"j1": holder})
    told = [CancelOnWorker("w1", "j1", 0)] if holder else []
    assert [one for one in new.effects if not isinstance(one, Heal)] == [*told, Release("j1", 0)]
    assert not new.registry
    assert not new.session.open_jobs
    new.link()
    assert not acquires(new)
