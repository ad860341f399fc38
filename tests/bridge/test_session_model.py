"""The session against a model of everything around it: whatever happens in whatever order, each text comes once.

`CHAOS_EXAMPLES` says how many runs (`make chaos`: thousands).
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.bridge.model_world import World

EXAMPLES = int(os.environ.get("CHAOS_EXAMPLES", "60"))
WORKERS = st.sampled_from(["w0", "w1", "w2"])
FATES = st.sampled_from(["now", "now", "now", "twice", "late", "lost"])


class Storm(RuleBasedStateMachine):
    """Each rule is one thing that may happen next. What must hold is checked by the model at every frame."""

    @initialize()
    def begin(self) -> None:
        self.world = World()

    @rule(tokens=st.integers(1, 12), stream=st.sampled_from([True, True, True, False]))
    def submit(self, tokens: int, stream: bool) -> None:  # noqa: FBT001  # hypothesis passes by name
        self.world.submit(tokens, stream=stream)

    @rule(count=st.integers(1, 4))
    def carry_out(self, count: int) -> None:
        for _ in range(count):
            self.world.carry_out()

    @rule(worker_id=WORKERS)
    def claim(self, worker_id: str) -> None:
        self.world.claim(worker_id)

    @precondition(lambda self: any(True for _ in self.world.runs()))
    @rule(data=st.data(), count=st.integers(1, 3), fate=FATES)
    def step(self, data: st.DataObject, count: int, fate: str) -> None:
        self.world.step(*data.draw(st.sampled_from(sorted(self.world.runs()))), count=count, fate=fate)

    @precondition(lambda self: self.world.late)
    @rule(index=st.integers(0, 9))
    def deliver_late(self, index: int) -> None:
        self.world.deliver_late(index)

    @precondition(lambda self: self.world.heal is not None)
    @rule()
    def heal(self) -> None:
        self.world.heal_now()

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        if self.world.jobs[name].open:
            self.world.cancel(name)

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        self.world.ack(data.draw(st.sampled_from(sorted(self.world.jobs))))

    @rule(worker_id=WORKERS, goodbye=st.booleans())
    def kill(self, worker_id: str, goodbye: bool) -> None:  # noqa: FBT001
        self.world.kill(worker_id, goodbye=goodbye)

    @rule(worker_id=WORKERS)
    def revive(self, worker_id: str) -> None:
        self.world.revive(worker_id)

    @rule(worker_id=WORKERS)
    def mute(self, worker_id: str) -> None:
        self.world.mute(worker_id)

    @rule(seconds=st.sampled_from([0.05, 0.5, 1.0, 3.5, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def link_down(self) -> None:
        self.world.link_down()

    @precondition(lambda self: not self.world.linked)
    @rule()
    def link_up(self) -> None:
        self.world.link_up()

    @rule()
    def redis_dies(self) -> None:
        self.world.redis_dies()

    @precondition(lambda self: not self.world.redis)
    @rule()
    def redis_returns(self) -> None:
        self.world.redis_returns()

    @rule()
    def bridge_dies(self) -> None:
        self.world.bridge_dies()

    @invariant()
    def nobody_holds_two_slots_for_one_job(self) -> None:
        fleet = self.world.session._ledger.fleet
        held = [job_id for view in fleet for job_id in view.held]
        assert len(held) == len(set(held))

    def teardown(self) -> None:
        self.world.calm_down()
        self.world.judge()


Storm.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestStorm = Storm.TestCase
