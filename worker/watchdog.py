"""Notices that nothing moves any more: a decode or a load that hangs (a GPU fault, a dead disk).

A heartbeat proves that the process lives, not that it works. Once a second this thread compares a mark that changes
with every decode step, prompt chunk, load fraction and event. When jobs run and the mark stood still for too many
looks, the process says goodbye, so that the bridge gives its jobs to others at once, and ends; its supervisor starts
it anew. Looks are counted, not seconds, and of each only the share for which no thread had to wait for a CPU: a
process that was stopped or starved has not stalled.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from tasks.logs import event
from worker.starvation import Starvation

_LOG = logging.getLogger("pendra.watchdog")
TICK_S = 1.0
STALL_S = 30.0  # a step of a large model on a slow CPU takes seconds; nobody waits half a minute for one
LOADING_STALL_S = 300.0  # weights come from a disk that may be slow, and the first step reads all of them
_STDERR = 2
EX_STALLED = 70  # EX_SOFTWARE of sysexits.h


@dataclass(frozen=True, slots=True)
class Pulse:
    """What one look sees. `working`: jobs that wait for the engine; `loading`: all of them wait for a model."""

    working: int
    loading: bool
    mark: Hashable


class Stall:
    """The rule: `look` once a tick; True when the bound is reached. Pure.

    `starved` says for which share of the time since it was last asked (0–1) the process waited for a CPU; it is asked
    only when nothing moved.
    """

    def __init__(self, stall_s: float = STALL_S, loading_s: float = LOADING_STALL_S, tick_s: float = TICK_S) -> None:
        self._bound = max(1, round(stall_s / tick_s))
        self._loading_bound = max(self._bound, round(loading_s / tick_s))
        self._mark: Hashable = None
        self._still = 0.0

    def look(self, pulse: Pulse, starved: Callable[[], float] = lambda: 0.0) -> bool:
        moved = pulse.mark != self._mark
        self._mark = pulse.mark
        self._still = 0.0 if moved or not pulse.working else self._still + 1 - starved()
        return self._still >= (self._loading_bound if pulse.loading else self._bound)


class Watchdog:
    """Looks from `start` to `stop`. `pulse` and `abandon` are called on its thread; `abandon` must return soon."""

    def __init__(
        self,
        pulse: Callable[[], Pulse],
        abandon: Callable[[], None],
        *,
        stall_s: float = STALL_S,
        end: Callable[[int], object] = os._exit,
        starved: Callable[[], float] | None = None,
    ) -> None:
        self._pulse = pulse
        self._abandon = abandon
        self._end = end
        self._starved = starved or Starvation().share
        self._tick_s = min(TICK_S, stall_s / 5)
        self._stall = Stall(stall_s, tick_s=self._tick_s)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._tick_s):
            pulse = self._pulse()
            if self._stall.look(pulse, self._starved):
                self._give_up(pulse)
                return

    def _give_up(self, pulse: Pulse) -> None:
        event(_LOG, logging.CRITICAL, "worker.stalled", jobs=pulse.working, loading=pulse.loading)
        try:
            self._abandon()
            faulthandler.dump_traceback(_STDERR)  # files and lines only: where each thread hangs
        finally:
            self._end(EX_STALLED)
