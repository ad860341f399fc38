"""How many tokens a second come from each worker, as the replies pass. Pure; times are monotonic seconds."""

from __future__ import annotations

from collections import deque

WINDOW_S = 3


class Pace:
    """Counts by whole seconds; what it tells is the mean of the last WINDOW_S full ones, so it changes once a second.

    One number a worker and second is all that is kept.
    """

    def __init__(self) -> None:
        self._second = 0
        self._counts: dict[str, int] = {}
        self._past: deque[dict[str, int]] = deque(maxlen=WINDOW_S)

    def said(self, worker_id: str, tokens: int, now: float) -> None:
        """Called for every piece of every reply, thousands of times a second."""
        if int(now) != self._second:
            self._turn(int(now))
        self._counts[worker_id] = self._counts.get(worker_id, 0) + tokens

    def rates(self, now: float) -> dict[str, float]:
        """Tokens a second by worker id; who said nothing is left out."""
        if int(now) != self._second:
            self._turn(int(now))
        totals: dict[str, int] = {}
        for counts in self._past:
            for worker_id, tokens in counts.items():
                totals[worker_id] = totals.get(worker_id, 0) + tokens
        return {worker_id: round(total / WINDOW_S, 1) for worker_id, total in sorted(totals.items()) if total}

    def _turn(self, second: int) -> None:
        """The second is over; those in which nobody said anything count as well."""
        for gap in range(min(second - self._second, WINDOW_S + 1)):
            self._past.append(self._counts if gap == 0 else {})
            self._counts = {}
        self._second = second
