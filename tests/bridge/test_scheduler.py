"""Who goes next; at the end, what holds whatever comes: no slot twice, nobody for ever, equal shares."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.admission import Ahead
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

    def ahead(self, model: str = "m", tenant: str = "t", *, batch: bool = False, now: float = 1.0) -> Ahead:
        return self.scheduler.ahead_of(Need(model), tenant, Priority.BATCH if batch else Priority.INTERACTIVE, now)

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


def test_with_one_slot_tenants_take_turns_too() -> None:
    room = Room(worker(slots=1))
    for n in range(5):
        room.add(f"greedy{n}", tenant="greedy")
    room.go()
    room.add("modest", tenant="modest")
    order = []
    for tenant, job_id in (("greedy", "greedy0"), ("greedy", "greedy1"), ("modest", "modest")):
        room.done(job_id, tenant)
        order += room.go()
    assert order == ["greedy1", "modest", "greedy2"]


def test_newcomers_do_not_keep_those_who_wait_from_their_turn() -> None:
    room = Room(worker(slots=1))
    room.add("old0", tenant="old")
    room.add("old1", tenant="old")
    room.go()
    last, went = ("old", "old0"), []
    for n in range(5):
        room.add(f"new{n}", tenant=f"new{n}")
        room.done(last[1], last[0])
        (job_id,) = room.go()
        went.append(job_id)
        last = (job_id.rstrip("01") if job_id.startswith("old") else job_id, job_id)
    assert went[0] == "old1"


def test_the_position_counts_who_would_go_first() -> None:
    room = Room(worker(slots=1))
    room.add("runs")
    room.go()
    for n in range(10):
        room.add(f"greedy{n}", tenant="greedy")
        room.add(f"batch{n}", tenant="greedy", batch=True)
    assert room.ahead(tenant="greedy").position == 10
    assert room.ahead(tenant="modest").position == 1
    assert room.ahead(tenant="modest", batch=True).position == 11
    assert room.ahead(tenant="modest", now=AGE_S + 1).position == 2
    assert room.ahead(tenant="greedy", now=AGE_S + 1).position == 20
    assert room.ahead(tenant="modest") == Ahead(waiting=20, of_model=20, of_key=0, position=1)


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
    assert room.ahead("m") == Ahead(waiting=1, of_model=1, of_key=1, position=1)
    assert room.ahead("n") == Ahead(waiting=1, of_key=1)


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
    assert not room.scheduler._tenants
    assert not room.scheduler._lanes


# ------------------------------------------------------------------ whatever comes


WORKERS = {"w0": ("m",), "w1": ("m", "n"), "w2": ("n",)}


class AnyLoad(RuleBasedStateMachine):
    """Jobs, workers and bad luck in any order. `went` and `running` are the model the scheduler is held against."""

    def __init__(self) -> None:
        super().__init__()
        self.room = Room()
        self.now = 0.0
        self.count = 0
        self.waiting: dict[str, str] = {}
        self.running: dict[str, str] = {}

    @rule(tenant=st.sampled_from("abc"), model=st.sampled_from("mn"), batch=st.booleans())
    def comes(self, tenant: str, model: str, batch: bool) -> None:  # noqa: FBT001  # hypothesis passes by name
        name = f"j{self.count}"
        self.count += 1
        self.room.add(name, model, tenant, batch=batch)
        self.waiting[name] = tenant

    @rule(worker_id=st.sampled_from(sorted(WORKERS)), slots=st.integers(1, 3))
    def beats(self, worker_id: str, slots: int) -> None:
        known = self.room.fleet.get(worker_id)
        size = known.info.slots_total if known else slots
        self.room.fleet.upsert(worker(worker_id, slots=size, loaded=WORKERS[worker_id]), self.now)

    @rule(worker_id=st.sampled_from(sorted(WORKERS)))
    def dies(self, worker_id: str) -> None:
        view = self.room.fleet.get(worker_id)
        lost = list(view.held) if view else []
        self.room.fleet.remove(worker_id)
        for job_id in lost:
            tenant = self.running.pop(job_id)
            self.room.done(job_id, tenant)
            self.room.add(job_id, "m", tenant, first=True)
            self.waiting[job_id] = tenant

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.running)))
        self.room.done(job_id, self.running.pop(job_id))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def is_cancelled(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[job_id]
        assert self.room.scheduler.remove(job_id)

    @rule(seconds=st.floats(0, 60))
    def goes_on(self, seconds: float) -> None:
        self.now += seconds
        for job_id in self.room.go(self.now):
            self.running[job_id] = self.waiting.pop(job_id)

    @invariant()
    def no_slot_is_given_twice(self) -> None:
        assert all(len(view.held) <= view.info.slots_total for view in self.room.fleet)
        assert sum(len(view.held) for view in self.room.fleet) == len(self.running)

    @invariant()
    def everybody_is_counted_once(self) -> None:
        scheduler = self.room.scheduler
        assert scheduler.depth == len(self.waiting)
        waiting, running = Counter(self.waiting.values()), Counter(self.running.values())
        counted = {name: (t.waiting, t.running) for name, t in scheduler._tenants.items()}
        assert counted == {name: (waiting[name], running[name]) for name in waiting | running}


TestAnyLoad = AnyLoad.TestCase
TestAnyLoad.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(max_examples=40, deadline=None)
@given(slots=st.integers(1, 4), lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6), batch=st.booleans())
def test_nobody_waits_for_ever_behind_a_load_that_never_ends(slots: int, lengths: list[int], batch: bool) -> None:  # noqa: FBT001
    """Every second a newcomer and a greedy tenant send more than the fleet can do. One old job waits among them."""
    room = Room(worker(slots=slots))
    running: dict[str, tuple[str, float]] = {}
    for second in range(int(AGE_S) + 20 * (len(lengths) + slots)):
        now = float(second)
        room.arrived = now
        if second == 3:
            room.add("old", tenant="old", batch=batch)
        for n, length in enumerate(lengths):
            room.add(f"greedy{second}.{n}.{length}", tenant="greedy")
            room.add(f"new{second}.{n}.{length}", tenant=f"new{second}.{n}")
        for job_id in [job_id for job_id, (_, end) in running.items() if end <= now]:
            room.done(job_id, running.pop(job_id)[0])
        for job_id in room.go(now):
            head, _, rest = job_id.partition(".")
            tenant = "greedy" if head.startswith("greedy") else job_id.rpartition(".")[0]
            running[job_id] = (tenant, now + int((rest or "0.1").rpartition(".")[2]))
            if job_id == "old":
                return
    raise AssertionError("the old job never went")


@settings(max_examples=40, deadline=None)
@given(slots=st.integers(1, 6), backlog=st.lists(st.integers(120, 240), min_size=2, max_size=4))
def test_tenants_with_work_get_equal_shares(slots: int, backlog: list[int]) -> None:
    room = Room(worker(slots=slots))
    for tenant, size in enumerate(backlog):
        for n in range(size):
            room.add(f"{tenant}.{n}", tenant=str(tenant))
    served = Counter({str(tenant): 0 for tenant in range(len(backlog))})
    for step in range(20):
        went = room.go(float(step))
        served.update(job_id.partition(".")[0] for job_id in went)
        for job_id in went:
            room.done(job_id, job_id.partition(".")[0])
    assert served.total() == 20 * slots
    assert max(served.values()) - min(served.values()) <= 1
