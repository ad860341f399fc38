"""How fast files may come in: one limit for everything a process downloads. Thread-safe."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_BURST_S = 0.25  # what may come at once after a pause, as a share of a second's worth


class Throttle:
    """`limit`: bytes a second for all users together; None = none. `take` before the bytes are used."""

    def __init__(self, limit: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0  # when everything taken so far would have come at exactly the limit

    def take(self, count: int) -> float:
        """Seconds to wait now, after `count` bytes came."""
        if not self._limit:
            return 0.0
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now - _BURST_S) + count / self._limit
            return max(0.0, self._free_at - now)
