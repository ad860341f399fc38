"""Whether a backend is offered to the fleet, look by look. Pure.

It is offered at the first look that finds it and withdrawn at the first that does not, with two exceptions:

- Slow is not gone. A server that was there and now does not answer in time keeps its place for one more look, and for
  PATIENCE_S at least, since a server that is busy with our own requests is often late.
- Flapping is damped. Each time it goes it collects a flap; from the second on it must be found several times in a
  row (2, 4, then 8) before it is offered again. Eight good looks in a row forgive everything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from worker.backends.external.product import Found, Served

PATIENCE_S = 10.0
STEADY = 8  # looks
_FREE_FLAPS = 1  # a restart is no flapping


@dataclass(frozen=True, slots=True)
class Seen:
    """The server is there, verified, with what it serves."""

    found: Found
    models: tuple[Served, ...] = ()


@dataclass(frozen=True, slots=True)
class Missed:
    """It is not. `why` is for an operator; `late`: the URLs where something is, but did not answer in time."""

    why: str
    late: frozenset[str] = frozenset()


Sighting = Seen | Missed


@dataclass(frozen=True, slots=True)
class Presence:
    """What we know of one backend. `shown`: what is offered now; `last`: what the last look saw.

    `late`: since when it has not answered in time, monotonic seconds.
    """

    shown: Seen | None = None
    last: Sighting | None = None
    good: int = 0
    late: float | None = None
    flaps: int = 0

    @property
    def held(self) -> bool:
        """It is there, but came and went too often to be offered yet."""
        return self.shown is None and isinstance(self.last, Seen)

    @property
    def to_go(self) -> int:
        """Good looks in a row that it still needs."""
        return max(0, needed(self.flaps) - self.good)


def needed(flaps: int) -> int:
    """How many good looks in a row bring it back."""
    return 1 if flaps <= _FREE_FLAPS else min(2 ** (flaps - _FREE_FLAPS), STEADY)


def after(before: Presence, sighting: Sighting, now: float) -> Presence:
    """What one more look makes of it."""
    return _missed(before, sighting, now) if isinstance(sighting, Missed) else _seen(before, sighting)


def _seen(before: Presence, sighting: Seen) -> Presence:
    good = before.good + 1
    offered = before.shown is not None or good >= needed(before.flaps)
    flaps = 0 if good >= STEADY else before.flaps
    return Presence(sighting if offered else None, sighting, good, None, flaps)


def _missed(before: Presence, sighting: Missed, now: float) -> Presence:
    if before.shown is None:
        return Presence(None, sighting, flaps=before.flaps)
    if before.shown.found.url in sighting.late and (before.late is None or now - before.late < PATIENCE_S):
        return replace(before, last=sighting, good=0, late=now if before.late is None else before.late)
    return Presence(None, sighting, flaps=before.flaps + 1)
