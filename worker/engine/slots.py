"""Which sequence sits in which KV slot, and what finished ones left there to be used again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_STRIDE = 256


@dataclass(slots=True)
class Slot:
    """One llama.cpp sequence. `tokens`: what its KV cells hold while it is free (a cache); empty while it is busy."""

    id: int
    busy: bool = False
    tokens: list[int] = field(default_factory=list, repr=False)
    used: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a request goes: `slot`, of whose cells the first `keep` fit; the first `share` of `donor` fit as well."""

    slot: int
    keep: int
    donor: int | None = None
    share: int = 0


class SlotTable:
    """Free and busy slots. A free slot keeps its tokens as a cache until the slot or its cells are needed.

    A request takes the free slot with the longest common prefix, if at least half of the request or half of the
    cache agree; otherwise one of those least recently used, so that a shared first sentence does not cost a long
    conversation its cache, and of them one beside slots that are busy: neighbours are evaluated in one pass
    (`scheduler.Plan`). With `sharing` the prefix can then still be taken over from any other slot, also from one that
    is busy, if at least `least_share` tokens are gained.
    """

    def __init__(self, count: int, *, sharing: bool, least_share: int = 1) -> None:
        self._slots = [Slot(i) for i in range(count)]
        self._sharing = sharing
        self._least_share = least_share
        self._clock = 0
        self.n_free = count

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def resident(self) -> int:
        """Cells that hold the caches of free slots. Cells shared between slots count for each (an upper bound)."""
        return sum(len(slot.tokens) for slot in self._slots)

    def find(
        self, tokens: list[int], *, reuse: bool, running: Mapping[int, tuple[list[int], int]]
    ) -> Placement | None:
        """The place for a request with these tokens; None when every slot is busy. Changes nothing.

        At least one token is always left to evaluate. `running`: each busy slot's tokens and how many of them are
        evaluated, to share from.
        """
        free = [slot for slot in self._slots if not slot.busy]
        if not free:
            return None
        if not reuse:
            return Placement(self._spare(free).id, 0)
        most = len(tokens) - 1
        fits = {slot.id: common_prefix(slot.tokens, tokens, most) for slot in free}
        slot = _worth_keeping(free, fits, len(tokens)) or self._spare(free)
        keep = fits[slot.id]
        if not self._sharing:
            return Placement(slot.id, keep)
        fits |= {donor: common_prefix(held, tokens, min(most, past)) for donor, (held, past) in running.items()}
        donor = max(fits, key=fits.__getitem__)
        if fits[donor] - keep < self._least_share:
            return Placement(slot.id, keep)
        return Placement(slot.id, keep, donor, fits[donor])

    def take(self, slot: int) -> None:
        """The slot is busy from now on; what it held belongs to its new sequence."""
        taken = self._slots[slot]
        if taken.busy:
            raise AssertionError(f"slot {slot} is taken twice")
        taken.busy = True
        taken.tokens = []
        self.n_free -= 1

    def release(self, slot: int, resident: list[int]) -> None:
        """The slot is free again; its cells still hold `resident`."""
        freed = self._slots[slot]
        if not freed.busy:
            raise AssertionError(f"slot {slot} is freed twice")
        self._clock += 1
        freed.busy, freed.tokens, freed.used = False, resident, self._clock
        self.n_free += 1

    def forget(self, slot: int) -> None:
        """A free slot's cells were emptied."""
        self._slots[slot].tokens = []

    def least_used_cache(self) -> int | None:
        """The free slot whose cache goes first when cells are needed; None when there is no cache."""
        cached = [slot for slot in self._slots if slot.tokens]
        return min(cached, key=_age).id if cached else None

    def _spare(self, free: list[Slot]) -> Slot:
        """An empty slot, or of the caches one in the older half; beside busy slots if there is such a one."""
        oldest = sorted(free, key=_age)
        spare = [slot for slot in oldest if not slot.tokens] or oldest[: (len(oldest) + 1) // 2]
        return max(spare, key=self._neighbours)

    def _neighbours(self, slot: Slot) -> int:
        return sum(other.busy for other in self._slots[max(0, slot.id - 1) : slot.id + 2])


def common_prefix(held: list[int], wanted: list[int], most: int) -> int:
    """How many leading tokens agree, at most `most`. Slices are compared whole: a long match costs microseconds."""
    most = min(most, len(held), len(wanted))
    start = 0
    while start < most:
        stop = min(start + _STRIDE, most)
        if held[start:stop] != wanted[start:stop]:
            return next(i for i in range(start, stop) if held[i] != wanted[i])
        start = stop
    return most


def _worth_keeping(free: list[Slot], fits: dict[int, int], wanted: int) -> Slot | None:
    """The slot whose cache fits best, if it fits well enough."""
    best = max(free, key=lambda slot: (fits[slot.id], -slot.used))
    return best if 2 * fits[best.id] >= max(1, min(len(best.tokens), wanted)) else None


def _age(slot: Slot) -> tuple[bool, int]:
    """Empty slots first, then the least recently used."""
    return bool(slot.tokens), slot.used
