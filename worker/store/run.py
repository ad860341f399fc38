"""What an install is given besides its goal: who watches, who may stop it, and how files may travel."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from worker.store.errors import DownloadError, InstallCancelled
from worker.store.planner import Stage
from worker.store.throttle import Throttle

_TICK_S = 0.2
_AFTER_MOST_S = 120.0
T = TypeVar("T")

Progress = Callable[[Stage, int, int | None], None]
"""Called with the stage, bytes done and bytes in all (None: not known). Often; must be quick and must not raise."""


class Stop(StrEnum):
    """Why an install ends before its end: KEEP leaves what came for a later try, DISCARD does not.

    LATER is the agent's own end: the install goes on when it starts again.
    """

    KEEP = "keep"
    DISCARD = "discard"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Transfer:
    """How files travel. `throttle` is shared by all installs of a process.

    `connections` at once for one file of at least `split_bytes` a piece; a connection on which nothing comes for
    `stall_s` is given up; `tries` without a single byte end a download; waits between them double from `backoff_s`.
    `public_only`: somebody from afar asked, so nothing in a private network is reached (`worker.store.reach`).
    """

    throttle: Throttle = field(default_factory=Throttle)
    connections: int = 4
    split_bytes: int = 32 << 20
    stall_s: float = 30.0
    tries: int = 6
    backoff_s: tuple[float, float] = (0.5, 15.0)
    public_only: bool = False

    def pause(self, failures: int, after_s: float | None = None) -> float:
        """Seconds before the next try, after `failures` in a row; a server's own wish counts up to two minutes."""
        wait = min(self.backoff_s[0] * 2.0 ** (failures - 1), self.backoff_s[1])
        return wait if after_s is None else max(wait, min(after_s, _AFTER_MOST_S))


def never() -> Stop | None:
    """Nobody stops it."""
    return None


@dataclass(frozen=True, slots=True)
class Run:
    """One install on its way."""

    progress: Progress
    stop: Callable[[], Stop | None] = never
    transfer: Transfer = field(default_factory=Transfer)

    def check(self) -> None:
        """Raises InstallCancelled when somebody wants it to end."""
        if (why := self.stop()) is not None:
            raise Stopped(why)

    def wait(self, seconds: float) -> None:
        """Sleep, but not past a stop. Raises InstallCancelled."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, _TICK_S))

    def insist(self, step: Callable[[], T]) -> T:
        """Try until it works, is refused, or has failed too often. Raises DownloadError, InstallCancelled."""
        failures = 0
        while True:
            self.check()
            try:
                return step()
            except DownloadError as exc:
                failures += 1
                if not exc.retryable or failures >= self.transfer.tries:
                    raise
                self.wait(self.transfer.pause(failures, exc.after_s))


class Stopped(InstallCancelled):
    """`why` decides what happens to what came so far."""

    def __init__(self, why: Stop) -> None:
        later = "it goes on when the agent starts again" if why is Stop.LATER else "it was cancelled"
        super().__init__(f"the install has stopped: {later}", code="draining" if why is Stop.LATER else "cancelled")
        self.why = why
