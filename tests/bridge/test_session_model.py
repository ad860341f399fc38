"""The session against a model of everything around it: whatever happens in whatever order, each text comes once."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.bridge.model_end import calm_down, judge
from tests.bridge.model_world import World
from tests.bridge.world_machine import WorldMachine, runs


class Storm(WorldMachine):
    """Each rule is one thing that may happen next. What must hold is checked by the model at every frame."""

    workers = ("w0", "w1", "w2")
    fates = ("now", "now", "now", "twice", "late", "lost")
    counts = (1, 3)
    pauses = (0.05, 0.5, 1.0, 3.5, 6.0)

    @initialize()
    def begin(self) -> None:
        self.world = World()

    @rule(tokens=st.integers(1, 12), stream=st.sampled_from([True, True, True, False]))
    def submit(self, tokens: int, stream: bool) -> None:  # noqa: FBT001  # hypothesis passes by name
        self.world.submit(tokens, stream=stream)

    @precondition(lambda self: self.world.redis.late)
    @rule(index=st.integers(0, 9))
    def deliver_late(self, index: int) -> None:
        self.world.deliver_late(index)

    @precondition(lambda self: self.world.api.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.api.jobs)))
        if self.world.api.jobs[name].open:
            self.world.cancel(name)

    @precondition(lambda self: any(True for _ in self.world.runs()))
    @rule(data=st.data(), hears=st.booleans(), bridge_too=st.booleans())
    def cancel_what_runs(self, data: st.DataObject, hears: bool, bridge_too: bool) -> None:  # noqa: FBT001  # by name
        """Its worker dies before it hears of it, or some time after."""
        worker_id, name, _ = data.draw(st.sampled_from(sorted(self.world.runs())))
        if not self.world.api.jobs[name].open:
            return
        self.world.cancel(name)
        if not hears:
            self.world.kill(worker_id, goodbye=False)
        for _ in range(data.draw(st.integers(0, 4))):
            self.world.carry_out()
        if bridge_too:
            self.world.bridge_dies()

    @precondition(lambda self: self.world.api.jobs)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        self.world.ack(data.draw(st.sampled_from(sorted(self.world.api.jobs))))

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

    @precondition(lambda self: not self.world.redis.up)
    @rule()
    def redis_returns(self) -> None:
        self.world.redis_returns()

    @invariant()
    def nobody_holds_two_slots_for_one_job(self) -> None:
        fleet = self.world.session._ledger.fleet
        held = [job_id for view in fleet for job_id in view.held]
        assert len(held) == len(set(held))

    def teardown(self) -> None:
        calm_down(self.world)
        judge(self.world)


Storm.TestCase.settings = runs(60, steps=60)
TestStorm = Storm.TestCase
