from __future__ import annotations

import pytest

from bridge.fleet import Fleet
from bridge.placement import Need, Plan, need_of, plan, refusal
from tasks.contract import WorkerInfo
from tests.bridge.builders import job, worker

M = Need("m")


def fleet(*workers: WorkerInfo) -> Fleet:
    made = Fleet()
    for info in workers:
        made.upsert(info, 0.0)
    return made


def cold(worker_id: str, **fields: int) -> WorkerInfo:
    return worker(worker_id, loaded=(), installed=("m",), **fields)


def test_loaded_workers_share_the_models_queue_least_loaded_first() -> None:
    view = fleet(worker("w1"), worker("w2"), worker("full", slots=1))
    view.hold("a", "w1", "m")
    view.hold("b", "full", "m")
    assert plan(M, view) == Plan((("w2", 2), ("w1", 2)), shared=True)


def test_a_pin_goes_to_that_worker_alone() -> None:
    view = fleet(worker("w1"), cold("w2"))
    assert plan(Need("m", pin="w2"), view) == Plan((("w2", 2),), shared=False)
    view.hold("a", "w2", "m")
    view.hold("b", "w2", "m")
    assert plan(Need("m", pin="w2"), view) is None


def test_a_cold_model_is_loaded_on_one_worker() -> None:
    assert plan(M, fleet(cold("w1"), cold("w2"))) == Plan((("w1", 2),), shared=False)


def test_a_burst_joins_the_load_and_then_waits() -> None:
    view = fleet(cold("w1"), cold("w2"))
    view.hold("a", "w1", "m")
    assert plan(M, view) == Plan((("w1", 2),), shared=False)
    view.hold("b", "w1", "m")
    assert plan(M, view) is None, "no second load of the same model"


def test_a_full_model_spreads_to_an_idle_worker() -> None:
    view = fleet(worker("w1", slots=1), cold("w2"))
    view.hold("a", "w1", "m")
    assert plan(M, view) == Plan((("w2", 2),), shared=False)


def test_a_full_model_does_not_push_itself_onto_a_busy_worker() -> None:
    view = fleet(worker("w1", slots=1), worker("w2", loaded=("other",), installed=("m",)))
    view.hold("a", "w1", "m")
    view.hold("b", "w2", "other")
    assert plan(M, view) is None


def test_a_cold_load_prefers_an_idle_worker_with_nothing_in_memory() -> None:
    view = fleet(worker("w1", loaded=("other",), installed=("m",)), cold("w2"))
    assert plan(M, view) == Plan((("w2", 2),), shared=False)


def test_draining_workers_get_nothing() -> None:
    view = fleet(worker("w1", draining=True), worker("w2"))
    view.drain("w2")
    assert plan(M, view) is None


def test_the_worker_that_lost_the_job_comes_last() -> None:
    assert plan(M, fleet(worker("w1"), worker("w2")), avoid="w1") == Plan((("w2", 2), ("w1", 2)), shared=True)


def test_private_jobs_go_to_workers_that_hold_a_key() -> None:
    envelope = {"pendra_encrypted": {"v": 2, "recipients": [{"kid": "k1"}, {"kid": "k2"}, "junk"]}}
    need = need_of(job(body=envelope))
    assert need.kids == {"k1", "k2"}
    assert plan(need, fleet(worker("w1"), worker("w2", kids=("k2",)))) == Plan((("w2", 2),), shared=False)


def test_labels_are_demands() -> None:
    need = need_of(job(labels=("eu",)))
    assert plan(need, fleet(worker("w1"), worker("w2", labels=("eu", "h100")))) == Plan((("w2", 2),), shared=False)


def code(need: Need, *workers: WorkerInfo) -> str | None:
    problem = refusal(need, fleet(*workers))
    return problem.code if problem else None


def test_every_refusal_has_its_own_code() -> None:
    assert code(M) == "no_worker"
    assert code(M, worker(slots=0)) == "no_worker"
    assert code(Need("other"), worker()) == "model_not_found"
    assert code(Need("m", pin="w9"), worker()) == "worker_not_found"
    assert code(Need("other", pin="w1"), worker()) == "model_not_installed"
    assert code(Need("m", pin="w1"), worker(draining=True)) == "draining"
    assert code(Need("m", kids=frozenset({"k"})), worker()) == "no_private_inference_worker"
    assert code(Need("m", labels=frozenset({"eu"})), worker()) == "no_labelled_worker"
    assert code(Need("m", pin="w1", labels=frozenset({"eu"})), worker()) == "no_labelled_worker"
    assert code(M, worker()) is None


def test_a_body_that_only_looks_sealed_is_no_private_job() -> None:
    assert need_of(job(body={"pendra_encrypted": {"recipients": "x"}})).kids == frozenset()
    assert need_of(job(body={"pendra_encrypted": 1})).kids == frozenset()


def test_workers_one_version_apart_serve_and_strangers_do_not() -> None:
    near = fleet(worker("older", v=0), worker("newer", v=2))
    assert {name for name, _ in plan(M, near).candidates} == {"older", "newer"}  # type: ignore[union-attr]
    far = fleet(worker("far", v=4))
    assert plan(M, far) is None
    assert code(M, worker("far", v=4)) == "version_mismatch"
    assert code(Need("m", pin="far"), worker("far", v=4), worker("w1")) == "version_mismatch"


def test_a_stranger_is_told_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    view = fleet(worker("far", v=4))
    view.upsert(worker("far", v=4), 1.0)
    assert [record.action for record in caplog.records] == ["fleet.version_refused"]  # type: ignore[attr-defined]
