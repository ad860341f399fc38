"""What the next decode step evaluates, and who waits. Pure: it never sees a context, only the `Memory` it is given.

Each step: one token of every decoding sequence first, then prompt chunks up to `n_batch`. Of the requests that
prefill, the one with the least left goes first, because its first token is then soonest and the others' hardly later;
the oldest always gets a part, so that no long prompt starves. Requests are admitted first in, first out.

KV cells are counted before they are used: a running sequence has claimed a cell for each of its tokens, caches of
free slots hold theirs until they are needed. When claims outgrow the pool, caches go first (least recently used),
then the youngest sequence goes back to the head of the queue and is recomputed later; nobody's tokens change. Cells
shared between slots are counted for each, so the count is an upper bound.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from tasks.logs import event
from worker.engine.sequence import Sequence, State
from worker.engine.slots import Placement, SlotTable

_log = logging.getLogger("pendra.engine")
_OLDEST = 4
"""One part in so many of a step's prompt tokens is the oldest request's, however long its prompt."""


class Memory(Protocol):
    """The KV cache as the scheduler sees it. Both return how many leading tokens the slot really holds afterwards."""

    def truncate(self, slot: int, keep: int) -> int:
        """Forget all but the first `keep` tokens; models that cannot go back forget everything (0)."""

    def share(self, donor: int, slot: int, count: int) -> int:
        """Let the emptied `slot` hold the first `count` tokens of `donor` too."""


@dataclass(slots=True)
class Plan:
    """One step: `decode` evaluate one token each and their drafts, `prefill` the given number of theirs.

    The batch goes by slots, upwards: with a KV stream for each slot llama.cpp evaluates together only what lies in
    neighbouring slots, and only as far as their numbers rise from token to token
    (`llama_batch_allocr::split_equal`). Everything else is another pass over the weights.
    """

    decode: list[Sequence] = field(default_factory=list)
    prefill: list[tuple[Sequence, int]] = field(default_factory=list)
    drafted: list[Sequence] = field(default_factory=list)
    """Those of `decode` that have a draft."""

    def __bool__(self) -> bool:
        return bool(self.decode or self.prefill)

    @property
    def tokens(self) -> int:
        drafts = sum(len(seq.draft) for seq in self.drafted)
        return len(self.decode) + drafts + sum(count for _, count in self.prefill)

    def drop_drafts(self) -> None:
        """The step did not happen."""
        for seq in self.drafted:
            seq.draft = []
        self.drafted = []

    def sampled(self) -> list[Sequence]:
        """The sequences that get a new token from this step, in the order of the batch's outputs."""
        return [seq for seq, count in self.parts() if count == seq.pending] if self.prefill else self.decode

    def parts(self) -> list[tuple[Sequence, int]]:
        """Everybody and how many tokens, drafts not counted, in the order of the batch."""
        return sorted([*((seq, 1) for seq in self.decode), *self.prefill], key=lambda part: part[0].slot)


class Scheduler:
    """Owned by the engine thread. `cells`: KV cells of the pool.

    `sharing`: a slot can take over a prefix from another one, which is done when at least `least_share` tokens are
    gained by it. `spare_outputs`: rows of logits that a step has beside one for each slot.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        slots: int,
        cells: int,
        n_batch: int,
        sharing: bool = False,
        least_share: int = 1,
        spare_outputs: int = 1,
    ) -> None:
        self._memory = memory
        self._cells = cells
        self._n_batch = n_batch
        self.chunk = n_batch
        """The most prompt tokens of a step that others wait for; may be changed between steps."""
        self._sharing = sharing
        self._least_share = least_share
        self._spare_outputs = spare_outputs
        self._slots = SlotTable(slots, sharing=sharing, least_share=least_share)
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []

    @property
    def running(self) -> list[Sequence]:
        """Sequences that have a slot, oldest admission first."""
        return self._running

    @property
    def waiting(self) -> deque[Sequence]:
        return self._waiting

    @property
    def idle(self) -> bool:
        return not self._running and not self._waiting

    @property
    def cells_used(self) -> int:
        return self._claimed() + self._slots.resident

    @property
    def room(self) -> int:
        """Cells nobody has claimed."""
        return self._cells - self.cells_used

    def enqueue(self, sequence: Sequence) -> None:
        self._waiting.append(sequence)

    def enqueue_first(self, sequences: list[Sequence]) -> None:
        """Before all who wait already: these have waited for their own first choice."""
        self._waiting.extendleft(reversed(sequences))

    def schedule(self, now: float) -> Plan:
        """The next step; empty when there is nothing to run. Admits, evicts and preempts on the way."""
        self._ensure_room()
        if self._waiting:
            self._admit(now)
        decode = [seq for seq in self._running if seq.state is State.DECODE]
        decode.sort(key=lambda seq: seq.slot)
        if len(decode) == len(self._running):
            return Plan(decode)
        budget = self._n_batch - len(decode)
        return Plan(decode, self._chunks(budget if len(self._running) == 1 else min(budget, self.chunk)))

    def commit(self, plan: Plan) -> None:
        """The plan's tokens are in the KV cache now; what becomes of drafts, `settle` says."""
        for seq in plan.decode:
            seq.n_past += 1
        for seq, count in plan.prefill:
            seq.n_past += count
            if not seq.pending:
                seq.move(State.DECODE)

    def settle(self, sequence: Sequence, accepted: int) -> None:
        """The first `accepted` tokens of its draft were right; the others leave the KV cache."""
        sequence.n_past += accepted
        sequence.draft = []
        self._memory.truncate(sequence.slot, sequence.n_past)

    def finish(self, sequence: Sequence) -> None:
        """The sequence leaves, wherever it stands; its slot is free, its evaluated tokens stay as a cache."""
        if sequence.state is State.WAITING:
            self._waiting.remove(sequence)
        else:
            self._leave(sequence, sequence.tokens[: sequence.n_past])
        sequence.move(State.FINISHED)

    def make_room(self) -> bool:
        """The cache had no room although the count said so: drop caches, else preempt. False: neither is left."""
        if self._evict_one():
            while self._evict_one():
                pass
            return True
        if len(self._running) <= 1:
            return False
        self._preempt(self._running[-1])
        return True

    def reset(self) -> list[Sequence]:
        """The KV cache was emptied: every running sequence is finished and no cache is left. Returns those."""
        lost, self._running = self._running, []
        self._slots = SlotTable(len(self._slots), sharing=self._sharing, least_share=self._least_share)
        for seq in lost:
            seq.slot = -1
            seq.move(State.FINISHED)
        return lost

    def drop_waiting(self) -> list[Sequence]:
        """Everybody who waits is finished. Returns those."""
        dropped = list(self._waiting)
        self._waiting.clear()
        for seq in dropped:
            seq.move(State.FINISHED)
        return dropped

    # ------------------------------------------------------------ admission

    def _admit(self, now: float) -> None:
        while self._waiting:
            seq = self._waiting[0]
            place = self._find(seq)
            if place is None or not self._has_room_for(seq):
                return
            self._waiting.popleft()
            self._place(seq, place)
            self._running.append(seq)
            self._drop_caches()
            if seq.admitted_at is None:
                seq.admitted_at = now
                seq.n_cached = seq.n_past
            seq.move(State.PREFILL)

    def _find(self, seq: Sequence) -> Placement | None:
        running = {other.slot: (other.tokens, other.n_past) for other in self._running}
        return self._slots.find(seq.tokens, reuse=seq.may_reuse, running=running)

    def _has_room_for(self, seq: Sequence) -> bool:
        """Whether all its tokens fit beside what runs, one more token for everybody included. Caches don't count."""
        claim = self._claimed() + len(self._running) + len(seq.tokens) + 1
        return claim <= self._cells or not self._running

    def _place(self, seq: Sequence, place: Placement) -> None:
        kept = place.keep
        if place.donor is None:
            kept = self._memory.truncate(place.slot, kept)
        else:
            self._memory.truncate(place.slot, 0)
            kept = self._memory.share(place.donor, place.slot, place.share)
        self._slots.take(place.slot)
        seq.slot = place.slot
        seq.n_past = kept

    # ------------------------------------------------------------ room

    def _claimed(self) -> int:
        return sum([len(seq.tokens) for seq in self._running])

    def _ensure_room(self) -> None:
        self._drop_caches()
        while (
            self._claimed() > self._cells and len(self._running) > 1
        ):  # one alone: its limit is never above the pool
            self._preempt(self._running[-1])

    def _drop_caches(self) -> None:
        while self.cells_used > self._cells and self._evict_one():
            pass

    def _evict_one(self) -> bool:
        slot = self._slots.least_used_cache()
        if slot is None:
            return False
        self._memory.truncate(slot, 0)
        self._slots.forget(slot)
        return True

    def _preempt(self, seq: Sequence) -> None:
        """Back to the head of the queue; its tokens, sampler and text stay, its cells are given up."""
        event(_log, logging.INFO, "engine.preempted", request_id=seq.id, n_tokens=len(seq.tokens))
        self._memory.truncate(seq.slot, 0)
        self._leave(seq, [])
        seq.n_past = 0
        seq.move(State.WAITING)
        self._waiting.appendleft(seq)

    def _leave(self, seq: Sequence, resident: list[int]) -> None:
        self._running.remove(seq)
        self._memory.truncate(seq.slot, len(resident))  # of a draft, more may have been right than was of use
        self._slots.release(seq.slot, resident)
        seq.slot = -1

    # ------------------------------------------------------------ prefill

    def _chunks(self, budget: int) -> list[tuple[Sequence, int]]:
        """Who evaluates how much of its prompt, in the order of their admission."""
        prefilling = [seq for seq in self._running if seq.state is State.PREFILL]
        oldest, most = prefilling[0], self._most(prefilling)
        counts = {oldest.slot: min(most[oldest.slot], -(-budget // _OLDEST))}
        budget -= counts[oldest.slot]
        for seq in sorted(prefilling, key=lambda seq: seq.pending):
            has = counts.get(seq.slot, 0)
            more = min(most[seq.slot] - has, budget)
            counts[seq.slot] = has + more
            budget -= more
        return [(seq, counts[seq.slot]) for seq in prefilling if counts[seq.slot]]

    def _most(self, prefilling: list[Sequence]) -> dict[int, int]:
        """How many tokens each slot may evaluate; the oldest prompt that is scored takes the spare outputs first."""
        most, spare = {}, self._spare_outputs
        for seq in prefilling:
            most[seq.slot] = seq.pending
            if seq.prompt_scores is not None:
                most[seq.slot] = seq.prompt_scores.most(seq.n_past, seq.pending, spare)
                spare -= len(seq.prompt_rows(most[seq.slot]))
        return most
