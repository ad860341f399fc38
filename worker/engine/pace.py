"""How many prompt tokens a step may carry while others are waiting for their next token. Pure."""

from __future__ import annotations

_SMALLEST = 64


class Pacer:
    """Keeps a step with prompt tokens in it near `target_s` seconds, by making chunks larger and smaller.

    Chunks start small. They never get smaller than 64 tokens, so that prompts get on even where a step without any
    takes longer than the target, nor larger than a batch.
    """

    def __init__(self, n_batch: int, *, target_s: float = 0.2) -> None:
        self._n_batch = n_batch
        self._target_s = target_s
        self.chunk = min(n_batch, _SMALLEST)

    def note(self, tokens: int, seconds: float) -> None:
        """A step evaluated so many tokens in so many seconds. Steps much smaller than a chunk are not counted."""
        if tokens < self.chunk // 2:
            return
        if seconds > 1.25 * self._target_s:
            self.chunk = max(min(_SMALLEST, self._n_batch), self.chunk // 2)
        elif seconds < 0.6 * self._target_s:
            self.chunk = min(self._n_batch, 2 * self.chunk)
