"""One reply as the API's end sees it: what is missing, what came twice, and how long each token was on its way."""

from __future__ import annotations

import asyncio
from array import array
from dataclasses import dataclass, field

_CONTENT = '"content":"'


class Latencies:
    """Milliseconds from a token's making to its arrival; kept only while `recording`."""

    def __init__(self) -> None:
        self.recording = False
        self._ms = array("d")

    def __len__(self) -> int:
        return len(self._ms)

    def add(self, ms: float) -> None:
        if self.recording:
            self._ms.append(ms)

    def clear(self) -> None:
        del self._ms[:]

    def percentile(self, share: float) -> float:
        """`share` 0–1. Not a number when nothing was recorded."""
        ranked = sorted(self._ms)
        return ranked[min(int(share * len(ranked)), len(ranked) - 1)] if ranked else float("nan")


@dataclass(slots=True, eq=False)
class Stream:
    """One job. Times are CLOCK_MONOTONIC in nanoseconds."""

    job_id: str
    tokens: int
    sent_ns: int
    done: asyncio.Event = field(default_factory=asyncio.Event)
    first_ns: int = 0
    next_seq: int = 0
    next_token: int = 0
    acked: int = -1
    lost: int = 0
    doubled: int = 0
    outcome: str = ""

    def take(self, seq: int, data: str | None, now_ns: int, latencies: Latencies) -> None:
        """One frame's event; `data` is a chunk's payload."""
        if seq < self.next_seq:
            self.doubled += 1
            return
        self.lost += seq - self.next_seq
        self.next_seq = seq + 1
        if data is not None:
            self._token(data, now_ns, latencies)

    def _token(self, data: str, now_ns: int, latencies: Latencies) -> None:
        made, _, number = data.partition(_CONTENT)[2].partition('"')[0].partition(" ")
        self.first_ns = self.first_ns or now_ns
        latencies.add((now_ns - int(made)) / 1e6)
        if int(number) < self.next_token:
            self.doubled += 1
        else:
            self.lost += int(number) - self.next_token
            self.next_token = int(number) + 1

    def ended(self, outcome: str) -> None:
        """The terminal frame came."""
        self.outcome = outcome if not self.outcome else f"{self.outcome}, then {outcome}"
        if outcome == "result":
            self.lost += self.tokens - self.next_token
        self.done.set()
