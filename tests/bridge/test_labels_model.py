"""A job with labels runs on workers that carry them and nowhere else: whatever dies, resumes, fails over, is adopted.

The model's own checks of every frame hold, too.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.bridge.labelled_world import LABELS, LabelledWorld

EXAMPLES = int(os.environ.get("CHAOS_EXAMPLES", "40"))
WORKERS = st.sampled_from(sorted(LABELS))
DEMANDS = st.sampled_from([frozenset(), frozenset({"phi"}), frozenset({"phi", "on-prem"}), frozenset({"batch"})])
FATES = st.sampled_from(["now", "now", "twice", "late", "lost"])


class Spills(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.world = LabelledWorld()

    @rule(
        tokens=st.integers(1, 6),
        stream=st.booleans(),
        labels=DEMANDS,
        talk=st.sampled_from(["a", "b"]),
        pin=st.sampled_from([None, None, None, *sorted(LABELS)]),
    )
    def ask(self, tokens: int, stream: bool, labels: frozenset[str], talk: str, pin: str | None) -> None:  # noqa: FBT001  # hypothesis passes by name
        self.world.ask(tokens, stream=stream, labels=labels, talk=talk, pin=pin)

    @rule(count=st.integers(1, 4))
    def carry_out(self, count: int) -> None:
        for _ in range(count):
            self.world.carry_out()

    @rule(worker_id=WORKERS)
    def claim(self, worker_id: str) -> None:
        self.world.claim(worker_id)

    @precondition(lambda self: any(True for _ in self.world.runs()))
    @rule(data=st.data(), fate=FATES)
    def step(self, data: st.DataObject, fate: str) -> None:
        self.world.step(*data.draw(st.sampled_from(sorted(self.world.runs()))), count=2, fate=fate)

    @precondition(lambda self: self.world.heal is not None)
    @rule()
    def heal(self) -> None:
        self.world.heal_now()

    @rule(worker_id=WORKERS, goodbye=st.booleans())
    def kill(self, worker_id: str, goodbye: bool) -> None:  # noqa: FBT001
        self.world.kill(worker_id, goodbye=goodbye)

    @rule(worker_id=WORKERS)
    def revive(self, worker_id: str) -> None:
        self.world.revive(worker_id)

    @rule(worker_id=WORKERS)
    def mute(self, worker_id: str) -> None:
        self.world.mute(worker_id)

    @rule(seconds=st.sampled_from([0.05, 0.5, 3.5, 6.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def redis_blinks(self) -> None:
        self.world.redis_dies()
        self.world.redis_returns()

    @rule()
    def bridge_dies(self) -> None:
        self.world.bridge_dies()


Spills.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestSpills = Spills.TestCase


@pytest.mark.parametrize("labels", [frozenset({"phi"}), frozenset({"phi", "on-prem"})])
def test_when_its_workers_die_a_labelled_job_fails_rather_than_spill(labels: frozenset[str]) -> None:
    world = LabelledWorld()
    for name, carried in LABELS.items():
        if labels.issubset(carried):
            world.kill(name, goodbye=True)
    world.ask(3, stream=True, labels=labels, talk="a", pin=None)
    for _ in range(40):
        world.carry_out()
        for name in LABELS:
            world.claim(name)
        world.tick(1.0)
    assert world.jobs["j0"].ends in (["no_worker"], ["no_labelled_worker"])
    assert not world.demands["j0"].served_by


def test_it_goes_on_on_the_other_worker_with_its_labels() -> None:
    world = LabelledWorld()
    world.ask(3, stream=True, labels=frozenset({"phi"}), talk="a", pin=None)
    for _ in range(5):
        world.carry_out()
    for name in LABELS:
        world.claim(name)
    (first,) = world.demands["j0"].served_by
    world.kill(first, goodbye=True)
    for _ in range(10):
        world.tick(1.0)
        for _ in range(5):
            world.carry_out()
        for name in LABELS:
            world.claim(name)
    assert world.demands["j0"].served_by == {"w0", "w1"}
