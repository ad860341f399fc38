"""How many tokens a second each worker makes, from one heartbeat to the next. Pure; times are monotonic seconds.

Workers with engines count their tokens themselves (`WorkerInfo.engines`), whoever asked for them and whether they
stream or not. For the others (external servers) the pieces of streams that pass this bridge are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tasks.figures import EngineFigures

WINDOW_S = 4.0
FORGET_S = 60.0


@dataclass(slots=True)
class _Track:
    """`made`: tokens since we know the worker. `engines`: what each model's counter said last."""

    made: int = 0
    counts_itself: bool = False
    engines: dict[str, int] = field(default_factory=dict)
    beats: deque[tuple[float, int]] = field(default_factory=deque)


class Pace:
    """Not thread-safe: the session's."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}

    def said(self, worker_id: str, tokens: int) -> None:
        """A piece of a stream. Called thousands of times a second."""
        track = self._tracks.get(worker_id)
        if track is not None and not track.counts_itself:
            track.made += tokens

    def beat(self, worker_id: str, engines: Iterable[EngineFigures], now: float) -> None:
        """A heartbeat of the worker. What its counters said at the first one is not news."""
        known = self._tracks.get(worker_id)
        track = self._tracks.setdefault(worker_id, _Track())
        counts = {engine.model: engine.completion_tokens for engine in engines}
        if counts:
            track.counts_itself = True
        if known is not None:
            track.made += sum(_grown(track.engines.get(model, 0), count) for model, count in counts.items())
        track.engines = counts
        track.beats.append((now, track.made))
        while len(track.beats) > 2 and now - track.beats[1][0] >= WINDOW_S:  # noqa: PLR2004  # two make a rate
            track.beats.popleft()

    def rates(self, now: float) -> dict[str, float]:
        """Tokens a second over the last WINDOW_S by worker id, those that make some; changes with each heartbeat."""
        self._forget(now)
        rates = {worker_id: _rate(track, now) for worker_id, track in sorted(self._tracks.items())}
        return {worker_id: rate for worker_id, rate in rates.items() if rate}

    def _forget(self, now: float) -> None:
        for worker_id in [name for name, track in self._tracks.items() if now - track.beats[-1][0] > FORGET_S]:
            del self._tracks[worker_id]


def _grown(before: int, count: int) -> int:
    """A counter that fell began anew."""
    return count - before if count >= before else count


def _rate(track: _Track, now: float) -> float:
    (first_at, first), (last_at, last) = track.beats[0], track.beats[-1]
    if last_at <= first_at or now - last_at > WINDOW_S:
        return 0.0
    return round((last - first) / (last_at - first_at), 1)
