from __future__ import annotations

from bridge.fleet import Fleet, Gone, decode_fleet
from tasks.keys import WORKER_LEASE_S
from tests.bridge.builders import worker


def test_a_lease_is_judged_by_when_the_heartbeat_came() -> None:
    fleet = Fleet()
    fleet.upsert(worker("w1"), 10.0)
    fleet.upsert(worker("w2"), 12.0)
    assert fleet.lapsed(10.0 + WORKER_LEASE_S) == []
    assert fleet.lapsed(10.1 + WORKER_LEASE_S) == ["w1"]
    fleet.renew_all(20.0)
    assert fleet.lapsed(20.1) == []


def test_another_epoch_is_another_process() -> None:
    fleet = Fleet()
    assert not fleet.is_new_process(worker())
    fleet.upsert(worker(), 0.0)
    assert not fleet.is_new_process(worker())
    assert fleet.is_new_process(worker(epoch="e2"))


def test_a_job_holds_one_slot_at_a_time() -> None:
    fleet = Fleet()
    one, two = worker("w1"), worker("w2")
    fleet.upsert(one, 0.0)
    fleet.upsert(two, 0.0)
    fleet.hold("j", "w1", "m")
    fleet.hold("j", "w2", "m")
    assert [view.free for view in fleet] == [2, 1]
    fleet.drop("j")
    fleet.drop("j")
    assert [view.free for view in fleet] == [2, 2]
    assert fleet.slots == 4


def test_a_worker_that_is_not_known_holds_nothing() -> None:
    fleet = Fleet()
    fleet.hold("j", "nobody", "m")
    fleet.drop("j")
    fleet.remove("nobody")
    assert len(fleet) == 0


def test_a_model_just_run_counts_as_there_until_heartbeats_know_better() -> None:
    fleet = Fleet()
    info = worker(loaded=(), installed=("m",))
    fleet.upsert(info, 0.0)
    fleet.ran("w1", "m")
    (view,) = fleet
    fleet.upsert(info, 1.0)
    assert view.is_loading("m")
    fleet.upsert(info, 2.0)
    assert not view.is_loading("m")


def test_busy_counts_what_other_bridges_use() -> None:
    fleet = Fleet()
    fleet.upsert(worker(slots=4, slots_busy=3), 0.0)
    (view,) = fleet
    fleet.hold("j", "w1", "m")
    assert (view.busy, view.free) == (3, 3)


def test_messages_of_the_fleet_channel() -> None:
    assert decode_fleet(worker().model_dump_json().encode()) == worker()
    assert decode_fleet(b'{"gone": "w1"}') == Gone("w1")
    assert decode_fleet(b"\xff\x00") is None
    assert decode_fleet(b"{}") is None
    assert decode_fleet(b"[1]") is None
