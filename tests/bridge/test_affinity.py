"""A conversation's next turn goes to the worker that has its cache, unless that one is much busier."""

from __future__ import annotations

from bridge.affinity import Affinity
from bridge.effects import Acquire
from tests.bridge.builders import Driven, claimed, finished, job, worker


def turn(driven: Driven, job_id: str, worker_id: str = "", **fields: object) -> Acquire:
    """One turn from its frame to its end; returns where it was sent."""
    (acquire,) = [e for e in driven.send(job(job_id, **fields)) if isinstance(e, Acquire)]
    driven.take(acquire, worker_id or None)
    runs_on = worker_id or acquire.candidates[0][0]
    driven.events(claimed(job_id, worker_id=runs_on), finished(1, job_id), worker_id=runs_on)
    return acquire


def test_the_next_turn_goes_to_the_same_worker_through_its_own_queue() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    assert len(turn(driven, "a", "w2", affinity="t").candidates) == 2
    (again,) = [e for e in driven.send(job("b", affinity="t")) if isinstance(e, Acquire)]
    assert again.candidates == (("w2", 2),)
    assert driven.take(again).queue == "worker.w2"


def test_equal_tokens_of_two_tenants_are_not_the_same_conversation() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    turn(driven, "a", "w2", affinity="t", tenant="ada")
    assert len(turn(driven, "b", affinity="t", tenant="bob").candidates) == 2


def test_a_worker_that_is_much_busier_is_not_waited_for() -> None:
    driven = Driven(worker("w1", slots=8), worker("w2", slots=8))
    turn(driven, "a", "w2", affinity="t")
    driven.beat(worker("w1", slots=8))
    driven.beat(worker("w2", slots=8, slots_busy=5))
    assert len(turn(driven, "b", affinity="t").candidates) == 2


def test_a_full_or_vanished_worker_is_not_waited_for() -> None:
    driven = Driven(worker("w1"), worker("w2", slots=1))
    turn(driven, "a", "w2", affinity="t")
    driven.start("busy", worker_id="w2", pin="w2")
    assert turn(driven, "b", affinity="t").candidates[0][0] == "w1"


def test_the_oldest_conversations_are_forgotten() -> None:
    affinity = Affinity(kept=2)
    for token in ("a", "b", "a", "c"):
        affinity.ran("t", token, f"w-{token}")
    assert [affinity.worker("t", token) for token in ("a", "b", "c", None)] == ["w-a", "", "w-c", ""]
