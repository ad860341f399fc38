"""What is said to end an attempt, from each state it may be in."""

from __future__ import annotations

import pytest

from bridge.effects import CancelOnWorker, Effect, Fence, Release
from bridge.jobs import JobRecord, JobState
from bridge.stopping import fence, stop, tell
from tests.bridge.builders import job

TOLD, FREED = CancelOnWorker("w1", "j1", 2), Release("j1", 2)


def record(state: JobState = JobState.RUNNING, stopped: int = -1) -> JobRecord:
    return JobRecord(job(), arrived=0.0, state=state, attempt=2, stopped=stopped, worker_id="w1")


@pytest.mark.parametrize(
    ("state", "worker_frees", "said"),
    [
        (JobState.ACQUIRING, True, [FREED]),
        (JobState.DISPATCHED, True, [FREED]),
        (JobState.RUNNING, True, [TOLD]),
        (JobState.RUNNING, False, [TOLD, FREED]),
        (JobState.FENCING, True, []),
        (JobState.FENCING, False, []),
    ],
)
def test_who_frees_the_slot(state: JobState, *, worker_frees: bool, said: list[Effect]) -> None:
    stopped = record(state)
    assert stop(stopped, worker_frees=worker_frees) == said
    assert stopped.loose == (said == [TOLD])


def test_an_attempt_that_is_over_is_not_told_to_stop() -> None:
    over = record(stopped=2)
    assert stop(over, worker_frees=True) == []
    assert not over.loose
    assert stop(over, worker_frees=False) == [FREED]


def test_it_is_told_once() -> None:
    one = record()
    assert tell(one, "w9", 1) == [CancelOnWorker("w9", "j1", 1)]
    assert tell(one, "w9", 1) == []
    assert tell(one, "w1", 2) == [TOLD]
    assert tell(one, "w9", 0) == [], "later ones were told"


def test_the_fence_comes_before_the_word() -> None:
    assert fence(record()) == [Fence("j1", 2), TOLD]
    assert fence(record(stopped=2)) == [Fence("j1", 2)]
    assert fence(record(JobState.DISPATCHED)) == [Fence("j1", 2)]
