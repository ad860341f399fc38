from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.engine.api import GenerationRequest
from worker.engine.scheduler import Plan, Scheduler
from worker.engine.sequence import Sequence, State

N_BATCH = 16


class FakeMemory:
    """A KV cache of token lists. Cells are objects, so that shared ones count once."""

    def __init__(self, slots: int, *, rewinds: bool = True) -> None:
        self.slots: list[list[tuple[int, object]]] = [[] for _ in range(slots)]
        self.rewinds = rewinds

    def truncate(self, slot: int, keep: int) -> int:
        held = self.slots[slot]
        if keep < len(held):
            del held[keep if self.rewinds else 0 :]
        return len(held)

    def share(self, donor: int, slot: int, count: int) -> int:
        assert not self.slots[slot], "the slot must be emptied first"
        self.slots[slot] = self.slots[donor][:count]
        return len(self.slots[slot])

    def evaluate(self, slot: int, tokens: list[int], at: int) -> None:
        assert len(self.slots[slot]) == at, "a token was skipped or evaluated twice"
        self.slots[slot] += [(token, object()) for token in tokens]

    def held(self, slot: int) -> list[int]:
        return [token for token, _ in self.slots[slot]]

    @property
    def cells(self) -> int:
        return len({id(cell) for held in self.slots for _, cell in held})


def next_token(held: list[int]) -> int:
    """What the fake model says after these tokens: any change in them shows."""
    value = 7
    for token in held:
        value = (value * 31 + token) % 9973
    return value % 50


@dataclass
class World:
    """A scheduler, a fake cache and the fake model, stepped by hand."""

    slots: int = 2
    cells: int = 1000
    n_batch: int = N_BATCH
    sharing: bool = False
    rewinds: bool = True
    done: list[Sequence] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.memory = FakeMemory(self.slots, rewinds=self.rewinds)
        self.scheduler = Scheduler(
            self.memory, slots=self.slots, cells=self.cells, n_batch=self.n_batch, sharing=self.sharing
        )

    def add(self, name: str, prompt: list[int], reply: int = 3, *, cache: bool = True) -> Sequence:
        request = GenerationRequest(name, tuple(prompt), max_tokens=reply, cache_prompt=cache)
        seq = Sequence(request, ctx_limit=self.cells, now=self.now)
        self.scheduler.enqueue(seq)
        return seq

    def step(self) -> Plan:
        self.now += 1
        plan = self.scheduler.schedule(self.now)
        sampled = plan.sampled()
        assert plan.tokens <= self.n_batch
        for seq in plan.decode:
            self.memory.evaluate(seq.slot, seq.tokens[-1:], seq.n_past)
        for seq, count in plan.prefill:
            self.memory.evaluate(seq.slot, seq.tokens[seq.n_past : seq.n_past + count], seq.n_past)
        assert self.memory.cells <= self.cells, "more cells used than there are"
        self.scheduler.commit(plan)
        for seq in sampled:
            assert self.memory.held(seq.slot) == seq.tokens, "sampled from something else than its own tokens"
            seq.add(next_token(seq.tokens), self.now)
            if len(seq.tokens) >= seq.limit:
                self.scheduler.finish(seq)
                self.done.append(seq)
        return plan

    def run(self, steps: int = 500) -> None:
        while not self.scheduler.idle:
            steps -= 1
            assert steps > 0, "the scheduler does not get done"
            self.step()


def expected(seq: Sequence) -> list[int]:
    tokens = list(seq.request.prompt)
    while len(tokens) < seq.limit:
        tokens.append(next_token(tokens))
    return tokens


def prompt(length: int, first: int = 0) -> list[int]:
    return list(range(first, first + length))


# ------------------------------------------------------------ one rule a test


def test_decoding_sequences_come_first_then_prompt_chunks() -> None:
    world = World()
    first = world.add("first", prompt(4))
    world.step()
    long = world.add("long", prompt(40, first=100))
    plan = world.step()
    assert plan.decode == [first]
    assert plan.prefill == [(long, N_BATCH - 1)]


def test_a_long_prompt_is_evaluated_in_chunks() -> None:
    world = World()
    world.add("long", prompt(40))
    assert [world.step().tokens for _ in range(3)] == [16, 16, 8]


def test_the_shortest_prompt_goes_first_and_the_oldest_always_gets_on() -> None:
    world = World(slots=3)
    oldest, long, short = world.add("o", prompt(90)), world.add("l", prompt(80, 100)), world.add("s", prompt(3, 200))
    assert world.step().prefill == [(oldest, 4), (long, 9), (short, 3)]


def test_equal_prompts_are_evaluated_one_after_the_other() -> None:
    world = World(slots=3)
    first, second, _ = (world.add(name, prompt(20, first=ord(name))) for name in "abc")
    assert world.step().prefill == [(first, 16)]
    assert world.step().prefill == [(first, 4), (second, 12)]


def test_a_long_prompt_ends_although_short_ones_keep_coming() -> None:
    world = World(slots=2)
    long = world.add("long", prompt(64))
    for name in range(16):
        world.add(str(name), prompt(16, first=100 + name), reply=1)
        world.step()
    assert long.state is not State.PREFILL


def test_chunk_bounds_prompt_tokens_only_while_others_wait() -> None:
    world = World()
    world.scheduler.chunk = 3
    world.add("first", prompt(16), reply=20)
    assert world.step().tokens == 16
    second = world.add("second", prompt(16, first=100))
    assert world.step().prefill == [(second, 3)]


def test_admission_is_first_in_first_out() -> None:
    world = World(slots=1)
    for name in "abc":
        world.add(name, prompt(3, first=ord(name)))
    world.run()
    assert [seq.id for seq in world.done] == ["a", "b", "c"]


def test_the_head_of_the_queue_waits_for_cells_and_nobody_overtakes_it() -> None:
    world = World(slots=3, cells=40)
    world.add("running", prompt(20), reply=4)
    world.step()
    big = world.add("big", prompt(30, first=100), reply=2)
    small = world.add("small", prompt(2, first=200), reply=2)
    world.step()
    assert (big.state, small.state) == (State.WAITING, State.WAITING)
    world.run()
    assert [seq.tokens for seq in world.done] == [expected(seq) for seq in world.done]


def test_a_finished_prompt_is_reused() -> None:
    world = World()
    world.add("first", prompt(10))
    world.run()
    again = world.add("again", [*prompt(10), 77])
    world.run()
    assert again.n_cached == 10
    assert again.tokens == expected(again)


def test_cache_prompt_false_reuses_nothing() -> None:
    world = World()
    world.add("first", prompt(10))
    world.run()
    again = world.add("again", prompt(10), cache=False)
    world.run()
    assert again.n_cached == 0


def test_a_model_that_cannot_rewind_evaluates_again() -> None:
    world = World(rewinds=False)
    world.add("first", prompt(10))
    world.run()
    again = world.add("again", prompt(10))
    world.run()
    assert again.n_cached == 0
    assert again.tokens == expected(again)


def test_caches_are_given_up_when_cells_are_needed() -> None:
    world = World(slots=2, cells=32)
    world.add("old", prompt(20))
    world.run()
    new = world.add("new", prompt(20, first=100), reply=5)
    world.run()
    assert new.tokens == expected(new)


def test_the_youngest_is_preempted_and_its_tokens_do_not_change() -> None:
    world = World(slots=2, cells=40)
    old, young = world.add("old", prompt(10), reply=25), world.add("young", prompt(10, first=100), reply=25)
    states = set()
    for _ in range(25):
        world.step()
        states.add((old.state is State.WAITING, young.state is State.WAITING))
    assert (False, True) in states
    assert not any(waits for waits, _ in states)
    world.run()
    assert (old.tokens, young.tokens) == (expected(old), expected(young))


def test_make_room_drops_caches_then_the_youngest_then_gives_up() -> None:
    world = World(slots=3)
    world.add("cached", prompt(5))
    world.run()
    old, young = world.add("old", prompt(5, 50), reply=9), world.add("young", prompt(5, 90), reply=9)
    world.step()
    assert world.scheduler.make_room()
    assert world.scheduler.cells_used == len(old.tokens) + len(young.tokens)
    assert world.scheduler.make_room()
    assert (old.state, young.state) == (State.DECODE, State.WAITING)
    assert not world.scheduler.make_room()


def test_reset_finishes_what_runs_and_keeps_what_waits() -> None:
    world = World(slots=1)
    running, waiting = world.add("running", prompt(4), reply=9), world.add("waiting", prompt(4), reply=2)
    world.step()
    world.memory.truncate(0, 0)
    assert world.scheduler.reset() == [running]
    world.run()
    assert waiting.tokens == expected(waiting)


@pytest.mark.parametrize("steps", [0, 1, 2, 4])
def test_finish_frees_the_slot_at_every_stage(steps: int) -> None:
    world = World(slots=1)
    seq = world.add("seq", prompt(40), reply=9)
    for _ in range(steps):
        world.step()
    world.scheduler.finish(seq)
    other = world.add("other", prompt(40), reply=2)
    world.run()
    assert other.tokens == expected(other)


# ------------------------------------------------------------ any arrivals, any cancels


arrival = st.tuples(
    st.integers(min_value=1, max_value=30),  # prompt
    st.integers(min_value=1, max_value=20),  # reply
    st.integers(min_value=0, max_value=2),  # which of a few common beginnings
    st.booleans(),  # cache_prompt
    st.integers(min_value=0, max_value=6),  # steps until the next event
    st.booleans(),  # cancel somebody then
)


@settings(max_examples=200, deadline=None)
@given(
    arrivals=st.lists(arrival, min_size=1, max_size=14),
    slots=st.integers(min_value=1, max_value=4),
    cells=st.integers(min_value=51, max_value=130),
    sharing=st.booleans(),
    rewinds=st.booleans(),
    data=st.data(),
)
def test_no_slot_leaks_and_no_token_is_skipped_or_doubled(
    arrivals: list[tuple[int, int, int, bool, int, bool]],
    slots: int,
    cells: int,
    sharing: bool,  # noqa: FBT001  # hypothesis fills it in
    rewinds: bool,  # noqa: FBT001  # as above
    data: st.DataObject,
) -> None:
    world = World(slots=slots, cells=cells, sharing=sharing and rewinds, rewinds=rewinds)
    alive: list[Sequence] = []
    for number, (length, reply, first, cache, wait, cancel) in enumerate(arrivals):
        alive.append(world.add(str(number), prompt(length, first * 20), reply, cache=cache))
        for _ in range(wait):
            world.step()
        alive = [seq for seq in alive if seq.state is not State.FINISHED]
        if cancel and alive:
            world.scheduler.finish(alive.pop(data.draw(st.integers(0, len(alive) - 1))))
    world.run()
    assert world.scheduler.running == []
    assert {seq.slot for seq in world.done} <= {-1}
    for seq in world.done:
        assert seq.tokens == expected(seq)
    assert set(alive) <= set(world.done)
