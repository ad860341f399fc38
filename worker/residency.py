"""Which idle models make room for another one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FIRST_USE_S = 30.0
"""How long a model that nobody has used yet stays at least."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory. `busy`: it has requests now, so it stays. `last_used`: any clock in seconds, larger = later.

    `keep_s`: how long it stays idle, below 0 = for ever. `used`: it has had a request since it was loaded.
    """

    model: str
    size_bytes: int
    busy: bool
    last_used: float
    keep_s: float = -1.0
    used: bool = True

    @property
    def ends(self) -> float | None:
        """When it has been idle for long enough. None: not while it is busy, or never.

        Somebody is about to use a model that was just loaded, whatever `keep_s` says.
        """
        if self.busy or self.keep_s < 0:
            return None
        return self.last_used + (self.keep_s if self.used else max(self.keep_s, FIRST_USE_S))


@dataclass(frozen=True, slots=True)
class Ageing:
    """`ended`: idle for long enough, they go now. `next_s`: when to look again, None = when something changes."""

    ended: tuple[str, ...] = ()
    next_s: float | None = None


def age(residents: Iterable[Resident], now: float) -> Ageing:
    """Which models have been idle for as long as they are kept."""
    ends = {one.model: one.ends for one in residents}
    ended = tuple(model for model, end in ends.items() if end is not None and end <= now)
    return Ageing(ended, min((end - now for end in ends.values() if end is not None and end > now), default=None))


@dataclass(frozen=True, slots=True)
class Decision:
    """`evict`: these, in this order, and then the model fits. Not `fits`: it would not even without all idle ones."""

    fits: bool
    evict: tuple[str, ...] = ()


def decide(least: int, wanted: int, free: int, residents: Iterable[Resident]) -> Decision:
    """Room for a model that can be served in `least` bytes and would like `wanted`, where `free` are free.

    Idle models go, the longest unused first, until `wanted` is there or none is left. None goes when even `least`
    cannot be had: a model that does not fit must not cost the ones that do.
    """
    idle = sorted((one for one in residents if not one.busy), key=lambda one: one.last_used)
    if free + sum(one.size_bytes for one in idle) < least:
        return Decision(fits=False)
    gone: list[str] = []
    for one in idle:
        if free >= wanted:
            break
        gone.append(one.model)
        free += one.size_bytes
    return Decision(fits=True, evict=tuple(gone))
