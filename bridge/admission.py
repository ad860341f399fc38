"""Whether a new job may wait: depth, measured rates and its deadline. Pure.

Three bounds on depth (the bridge, the model, the API key) and one on time: the wait that the measured rate of the
model promises. What is refused is refused at once, and says when to come back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tasks.contract import Priority
from tasks.errors import BusyError, JobTimeoutError, PendraError

_WEIGHT = 0.1  # of the newest sample in the moving average
MIN_RETRY_S, MAX_RETRY_S = 1, 120


class Rates:
    """How long a job holds its slot, per model, as moving averages of what was measured."""

    def __init__(self) -> None:
        self._service_s: dict[str, float] = {}

    def served(self, model: str, seconds: float) -> None:
        known = self._service_s.get(model, seconds)
        self._service_s[model] = known + _WEIGHT * (seconds - known)

    def service_s(self, model: str) -> float | None:
        """Seconds one job of this model holds a slot; None while nothing was measured."""
        return self._service_s.get(model)

    def expected_wait(self, model: str, waiting: int, slots: int) -> float | None:
        """Seconds until `waiting` jobs have gone, with `slots` for them; None while nothing was measured."""
        service_s = self.service_s(model)
        if service_s is None or slots <= 0:
            return None
        return service_s * waiting / slots


@dataclass(frozen=True, slots=True)
class Limits:
    """The most jobs that may wait, and the longest expected wait in seconds. See docs/operations.md."""

    waiting: int = 1000
    of_model: int = 500
    of_key: int = 250
    wait_s: float = 300.0
    batch_wait_s: float = 3600.0

    def wait_of(self, priority: Priority) -> float:
        return self.batch_wait_s if priority is Priority.BATCH else self.wait_s


@dataclass(frozen=True, slots=True)
class Ahead:
    """Who waits already: in all, for the model, of the API key, and how many would go before a new job."""

    waiting: int = 0
    of_model: int = 0
    of_key: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A new job and what it meets. `slots` may take it in time; `can_go_now`: it would not wait.

    `remaining`: seconds to its deadline, None when it has none.
    """

    model: str
    priority: Priority
    ahead: Ahead
    slots: int
    can_go_now: bool
    remaining: float | None = None


def admission(job: Arrival, rates: Rates, limits: Limits) -> PendraError | None:
    """Why the job is not taken, or None."""
    if job.remaining is not None and job.remaining <= 0:
        return JobTimeoutError("the deadline had passed when the job arrived", code="deadline_exceeded")
    if job.can_go_now:
        return None
    expected = rates.expected_wait(job.model, job.ahead.position + 1, job.slots)
    return _too_many(job, expected, limits) or _too_long(job, expected, limits)


def _too_many(job: Arrival, expected: float | None, limits: Limits) -> PendraError | None:
    ahead = job.ahead
    if ahead.of_key >= limits.of_key:
        words = f"{ahead.of_key} jobs of this API key are waiting, which is its limit"
        return _busy(words, job, expected, code="rate_limited")
    if ahead.of_model >= limits.of_model:
        return _busy(f"{ahead.of_model} jobs are waiting for this model, which is the limit", job, expected)
    if ahead.waiting >= limits.waiting:
        return _busy(f"{ahead.waiting} jobs are waiting, which is the limit", job, expected)
    return None


def _too_long(job: Arrival, expected: float | None, limits: Limits) -> PendraError | None:
    if expected is None:
        return None
    if job.remaining is not None and expected > job.remaining:
        words = f"the wait is about {expected:.0f} s, longer than the job's deadline allows"
        return _busy(words, job, expected)
    allowed = limits.wait_of(job.priority)
    if expected > allowed:
        words = f"the wait is about {expected:.0f} s; more than {allowed:.0f} s is not taken on"
        return _busy(words, job, expected - allowed)
    return None


def _busy(why: str, job: Arrival, seconds: float | None, *, code: str = "queue_full") -> BusyError:
    """`seconds`: when to come back; the minimum while nothing was measured."""
    place = job.ahead.position + 1
    retry_s = min(MAX_RETRY_S, max(MIN_RETRY_S, math.ceil(seconds or 0)))
    words = f"{why}; this one would be number {place} in the queue. Try again in {retry_s} s"
    return BusyError(words, code=code, retry_after=retry_s, position=place)
