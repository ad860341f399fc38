"""Whether a new job may wait: depth, measured rates and its deadline. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tasks.errors import BusyError, JobTimeoutError, PendraError

_WEIGHT = 0.1  # of the newest sample in the moving average
MIN_RETRY_S, MAX_RETRY_S = 1, 120


class Rates:
    """How long a job holds its slot, as a moving average of what was measured."""

    def __init__(self) -> None:
        self.service_s: float | None = None

    def served(self, seconds: float) -> None:
        self.service_s = seconds if self.service_s is None else self.service_s + _WEIGHT * (seconds - self.service_s)

    def expected_wait(self, waiting: int, slots: int) -> float | None:
        """Seconds until `waiting` jobs have gone, with `slots` in the fleet; None while nothing was measured."""
        if self.service_s is None or slots <= 0:
            return None
        return self.service_s * waiting / slots


@dataclass(frozen=True, slots=True)
class Queueing:
    """What a new job meets: `depth` jobs wait in all, `ahead` of them for the same workers with `slots` slots."""

    depth: int
    ahead: int
    slots: int
    max_depth: int
    can_go_now: bool


def admission(queue: Queueing, rates: Rates, remaining: float | None) -> PendraError | None:
    """Why the job is not taken, or None. `remaining`: seconds to its deadline."""
    if remaining is not None and remaining <= 0:
        return JobTimeoutError("the deadline had passed when the job arrived", code="deadline_exceeded")
    if queue.can_go_now:
        return None
    expected = rates.expected_wait(queue.ahead + 1, queue.slots)
    if queue.depth >= queue.max_depth:
        words = f"{queue.depth} jobs are waiting, which is the limit; try again later"
        return BusyError(words, retry_after=_retry_after(expected))
    if remaining is not None and expected is not None and expected > remaining:
        words = f"the wait is about {expected:.0f} s, longer than the job's deadline allows"
        return BusyError(words, retry_after=_retry_after(expected))
    return None


def _retry_after(expected: float | None) -> int:
    """Whole seconds for `Retry-After`; the minimum while nothing was measured."""
    return min(MAX_RETRY_S, max(MIN_RETRY_S, math.ceil(expected or 0)))
