"""What a supervised process is, and the pure rule for when it comes back after it died."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class State(StrEnum):
    """Where a child is. WAITING: what it needs is not ready; BACKOFF: it died and will be started again."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Restart(StrEnum):
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Run:
    """One life of a child: its process id and when it was started (seconds since the epoch)."""

    pid: int
    started_at: float


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to keep alive.

    `env` is added to our own environment and `drop_env` taken from it (a secret one part needs is not everybody's).
    `needs` names the children that must be ready first. `ready` is asked about ten times a second while the child
    starts: it must answer at once and not raise; None = ready as soon as it runs. `stop_signal` asks it to end, a
    second time after `grace_s`; then its whole process group is killed.
    """

    name: str
    role: str
    argv: tuple[str, ...]
    log_path: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    drop_env: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()
    ready: Callable[[Run], bool] | None = field(default=None, repr=False)
    stop_signal: int = signal.SIGTERM
    grace_s: float = 10.0
    restart: Restart = Restart.ALWAYS
    worker_id: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A child changed state; what a person is shown and what `pendra status` reads.

    `delay_s` is set in BACKOFF: when it starts again (None: it will not).
    """

    spec: ChildSpec
    state: State
    pid: int | None = None
    exit_code: int | None = None
    delay_s: float | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a dead child stays down: `first_s`, doubled with each failure up to `ceiling_s`.

    A life of `healthy_s` or more forgives earlier failures. `loop_after` failures in a row are a crash loop.
    """

    first_s: float = 0.5
    factor: float = 2.0
    ceiling_s: float = 30.0
    healthy_s: float = 30.0
    loop_after: int = 5

    def failures(self, before: int, ran_s: float) -> int:
        """Failures in a row, this one included."""
        return 1 if ran_s >= self.healthy_s else before + 1

    def delay(self, failures: int) -> float:
        """Seconds to wait after the `failures`-th failure in a row (from 1)."""
        doublings = min(failures - 1, 64)  # a float power that never overflows
        return min(self.ceiling_s, self.first_s * self.factor**doublings)

    def crash_loop(self, failures: int) -> bool:
        return failures >= self.loop_after


def describe_exit(code: int | None) -> str:
    """An exit status in words: `exit 3`, or `killed by SIGKILL`."""
    if code is None:
        return "running"
    if code >= 0:
        return f"exit {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
