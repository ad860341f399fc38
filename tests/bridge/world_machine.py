"""What may happen next to any model of the session's world: workers come and go, replies go on, time passes."""

from __future__ import annotations

import os
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.bridge.model_world import World

WORKERS = st.runner().flatmap(lambda machine: st.sampled_from(machine.workers))
FATES = st.runner().flatmap(lambda machine: st.sampled_from(machine.fates))
COUNTS = st.runner().flatmap(lambda machine: st.integers(*machine.counts))
PAUSES = st.runner().flatmap(lambda machine: st.sampled_from(machine.pauses))


class WorldMachine(RuleBasedStateMachine):
    """A subclass makes `world` when it is initialised, and names its workers, and what one step may be.

    `fates` become of a step's events; `counts`: least and most tokens of a step; `pauses` are seconds.
    """

    world: World
    workers: ClassVar[tuple[str, ...]]
    fates: ClassVar[tuple[str, ...]]
    counts: ClassVar[tuple[int, int]]
    pauses: ClassVar[tuple[float, ...]]

    @rule(count=st.integers(1, 4))
    def carry_out(self, count: int) -> None:
        for _ in range(count):
            self.world.carry_out()

    @rule()
    def all_go(self) -> None:
        """Everything wanted is done, and every worker takes what it may: so that there are jobs that run."""
        while self.world.pending and self.world.redis.up:
            self.world.carry_out()
        for worker_id in self.workers:
            self.world.claim(worker_id)

    @rule(worker_id=WORKERS)
    def claim(self, worker_id: str) -> None:
        self.world.claim(worker_id)

    @precondition(lambda self: any(True for _ in self.world.runs()))
    @rule(data=st.data(), count=COUNTS, fate=FATES)
    def step(self, data: st.DataObject, count: int, fate: str) -> None:
        self.world.step(*data.draw(st.sampled_from(sorted(self.world.runs()))), count=count, fate=fate)

    @precondition(lambda self: self.world.heal is not None)
    @rule()
    def heal(self) -> None:
        self.world.heal_now()

    @rule(worker_id=WORKERS, goodbye=st.booleans())
    def kill(self, worker_id: str, goodbye: bool) -> None:  # noqa: FBT001  # hypothesis passes by name
        self.world.kill(worker_id, goodbye=goodbye)

    @rule(worker_id=WORKERS)
    def revive(self, worker_id: str) -> None:
        self.world.revive(worker_id)

    @rule(worker_id=WORKERS)
    def mute(self, worker_id: str) -> None:
        self.world.mute(worker_id)

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def bridge_dies(self) -> None:
        self.world.bridge_dies()


def runs(examples: int, *, steps: int) -> settings:
    """So many runs, or as many as `CHAOS_EXAMPLES` says (`make chaos`: thousands)."""
    return settings(
        max_examples=int(os.environ.get("CHAOS_EXAMPLES", examples)),
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
