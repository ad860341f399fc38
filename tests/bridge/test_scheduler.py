from __future__ import annotations

from typing import Any

from bridge.fleet import Fleet
from bridge.placement import Need
from bridge.scheduler import AGE_S, NO_WORKER_GRACE_S, NoWorker, Scheduler, Waiting
from tasks.contract import Priority, WorkerInfo
from tests.bridge.builders import worker


class Room:
    """A scheduler over a fleet; jobs arrive in the order they are added."""

    def __init__(self, *workers: WorkerInfo) -> None:
        self.fleet = Fleet()
        for info in workers:
            self.fleet.upsert(info, 0.0)
        self.scheduler = Scheduler(self.fleet)
        self.arrived = 0.0

    def add(self, job_id: str, model: str = "m", tenant: str = "t", *, batch: bool = False, **fields: Any) -> None:
        self.arrived += 0.001
        priority = Priority.BATCH if batch else Priority.INTERACTIVE
        self.scheduler.add(Waiting(job_id, Need(model), tenant, priority, self.arrived), **fields)

    def go(self, now: float = 1.0) -> list[str]:
        return [go.job_id for go in self.scheduler.release(now)]

    def done(self, job_id: str, tenant: str = "t") -> None:
        self.fleet.drop(job_id)
        self.scheduler.settled(tenant)


def test_jobs_go_in_order_as_long_as_slots_last() -> None:
    room = Room(worker(slots=2))
    for name in "abc":
        room.add(name)
    assert room.go() == ["a", "b"]
    assert room.scheduler.depth == 1
    assert room.go() == []
    room.done("a")
    assert room.go() == ["c"]
    assert room.scheduler.depth == 0


def test_a_removed_job_does_not_go() -> None:
    room = Room(worker())
    room.add("a")
    assert room.scheduler.remove("a")
    assert not room.scheduler.remove("a")
    assert room.go() == []


def test_tenants_share_slots_evenly_however_many_jobs_one_sends() -> None:
    room = Room(worker(slots=4))
    for n in range(10):
        room.add(f"greedy{n}", tenant="greedy")
    for n in range(2):
        room.add(f"modest{n}", tenant="modest")
    assert room.go() == ["greedy0", "modest0", "greedy1", "modest1"]


def test_a_tenant_with_fewer_running_jobs_goes_first() -> None:
    room = Room(worker(slots=2))
    room.add("a1", tenant="a")
    room.add("a2", tenant="a")
    room.go()
    room.add("a3", tenant="a")
    room.add("b1", tenant="b")
    room.done("a1", tenant="a")
    assert room.go() == ["b1"]


def test_interactive_goes_before_batch_until_batch_has_waited_long() -> None:
    room = Room(worker(slots=1))
    room.add("old", batch=True)
    room.add("new")
    assert room.go() == ["new"]
    room.done("new")
    room.add("newer")
    assert room.go(now=AGE_S + 1) == ["old"]


def test_a_model_without_room_does_not_hold_up_another() -> None:
    room = Room(worker("w1", slots=1), worker("w2", loaded=("n",)))
    room.add("m1")
    room.add("m2")
    room.add("n1", model="n")
    assert room.go() == ["m1", "n1"]
    assert room.scheduler.ahead_of(Need("m")) == 1
    assert room.scheduler.ahead_of(Need("n")) == 0


def test_one_burst_loads_a_model_once() -> None:
    room = Room(*(worker(f"w{n}", slots=2, loaded=(), installed=("m",)) for n in range(3)))
    for name in "abcdef":
        room.add(name)
    gone = room.scheduler.release(1.0)
    assert {go.plan.candidates for go in gone} == {(("w0", 2),)}
    assert len(gone) == 2
    room.fleet.upsert(worker("w0", slots=2), 1.0)
    assert {go.plan.candidates for go in room.scheduler.release(2.0)} == {(("w1", 2),)}


def test_a_job_put_back_is_first_again_after_its_pause() -> None:
    room = Room(worker(slots=2))
    room.add("a")
    room.add("b")
    room.go()
    room.done("b")
    room.add("c")
    room.add("b", first=True, blocked_until=2.0)
    assert room.go(now=1.0) == []
    assert room.go(now=2.0) == ["b"]


def test_jobs_nobody_can_run_are_given_up_after_the_grace() -> None:
    room = Room(worker())
    room.add("a")
    room.fleet.remove("w1")
    assert room.scheduler.orphans(0.0) == []
    room.fleet.upsert(worker(), 1.0)
    assert room.scheduler.orphans(NO_WORKER_GRACE_S + 1) == []
    room.fleet.remove("w1")
    assert room.scheduler.orphans(100.0) == []
    assert room.scheduler.orphans(100.0 + NO_WORKER_GRACE_S) == [NoWorker("a")]
    assert room.scheduler.depth == 0


def test_nothing_is_left_of_tenants_that_are_done() -> None:
    room = Room(worker(slots=1))
    for n in range(50):
        room.add(f"j{n}", tenant=f"t{n}")
        room.go()
        room.done(f"j{n}", tenant=f"t{n}")
    assert not room.scheduler._running
    assert not room.scheduler._served
    assert not room.scheduler._lanes
