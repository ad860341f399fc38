"""How often a key may ask: a token bucket each, in bounded memory. Pure; times are monotonic seconds."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MAX_KEYS = 10_000
_BURST_S = 10.0  # what a key saves up while it is quiet, in seconds of its rate


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Rates:
    """Not thread-safe: the event loop's."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key_id: str, per_minute: float, now: float) -> float:
        """0 when the request may go, else the seconds after which one may."""
        per_second = per_minute / 60
        most = max(1.0, per_second * _BURST_S)
        bucket = self._buckets.setdefault(key_id, _Bucket(most, now))
        self._buckets.move_to_end(key_id)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(most, bucket.tokens + (now - bucket.at) * per_second)
        bucket.at = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / per_second
        bucket.tokens -= 1
        return 0.0
