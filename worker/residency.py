"""Which idle models make room for another one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory. `busy`: it has requests now, so it stays. `last_used`: any clock, larger = later."""

    model: str
    size_bytes: int
    busy: bool
    last_used: float


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
