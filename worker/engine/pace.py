"""How many prompt tokens a step may carry while others are waiting for their next token. Pure."""

from __future__ import annotations

_MEASURABLE = 32
_SMOOTHING = 0.3


class Pacer:
    """Keeps a step near `target_s` seconds: learns how fast prompts are evaluated here and sizes chunks by it.

    Until something was measured, and on machines that are fast enough, a chunk is a whole batch (`n_batch`).
    """

    def __init__(self, n_batch: int, *, target_s: float = 0.1) -> None:
        self._n_batch = n_batch
        self._target_s = target_s
        self._rate: float | None = None
        self.chunk = n_batch

    def note(self, tokens: int, seconds: float) -> None:
        """A step evaluated so many tokens in so many seconds. Small steps say little about prompts: not counted."""
        if tokens < min(_MEASURABLE, self._n_batch) or seconds <= 0:
            return
        rate = tokens / seconds
        self._rate = rate if self._rate is None else self._rate + _SMOOTHING * (rate - self._rate)
        self.chunk = max(1, min(self._n_batch, max(_MEASURABLE, int(self._rate * self._target_s))))
