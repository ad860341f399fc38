"""A job with labels runs on workers that carry them and nowhere else: whatever dies, resumes, fails over, is adopted.

The model's own checks of every frame hold, too.
"""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.bridge.labelled_world import LABELS, LabelledWorld
from tests.bridge.world_machine import WorldMachine, runs

DEMANDS = st.sampled_from([frozenset(), frozenset({"phi"}), frozenset({"phi", "on-prem"}), frozenset({"batch"})])


class Spills(WorldMachine):
    world: LabelledWorld
    workers = tuple(sorted(LABELS))
    fates = ("now", "now", "twice", "late", "lost")
    counts = (2, 2)
    pauses = (0.05, 0.5, 3.5, 6.0, 31.0)

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

    @rule()
    def redis_blinks(self) -> None:
        self.world.redis_dies()
        self.world.redis_returns()


Spills.TestCase.settings = runs(40, steps=50)
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
    assert world.api.jobs["j0"].ends in (["no_worker"], ["no_labelled_worker"])
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
