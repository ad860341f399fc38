"""Keeps a set of child processes running, in one loop on the main thread.

    WAITING ──needs ready──► STARTING ──ready──► READY
                                ▲   └──died──┬────┘
                                └─ delay ─ BACKOFF          stop: READY, STARTING ─► STOPPING ─► STOPPED

Children start in parallel as soon as what they need is ready, and stop in reverse order, role by role. Deciding
when one comes back is pure (`worker.children.Backoff`). A first stop signal ends everything with grace, a second
one cuts the grace short. A child is asked to stop, after its grace asked again (a worker then leaves its jobs to
the fleet and says goodbye), and killed a second later; all of them die with us (`worker.tether`).
"""

from __future__ import annotations

import itertools
import logging
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Self

from tasks.errors import PendraError
from tasks.logs import event
from worker.children import Backoff, Change, ChildSpec, Restart, Run, State, describe_exit
from worker.spawn import kill_group, spawn
from worker.wake import Wake

_LOG = logging.getLogger("pendra.supervisor")
_BUSY_S = 0.1  # how often children are looked at while one of them starts or stops
_IDLE_S = 1.0  # … and otherwise; a dying child wakes the loop at once
_HURRY_S = 1.0  # from a child's second stop signal to its end
_EX_CONFIG = 78  # sysexits.h: a setting is wrong, so trying again does not help


def _stop_signals() -> set[signal.Signals]:
    """A closed terminal ends us too, unless `nohup` said otherwise."""
    hangup = set() if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else {signal.SIGHUP}
    return {signal.SIGINT, signal.SIGTERM} | hangup


class ChildFailedError(PendraError):
    """A child kept dying before it was ever ready."""

    default_code = "child_failed"


class Child:
    """One spec and its present life. Touched by the supervisor's loop only."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.state = State.WAITING
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0  # monotonic
        self.started_at = 0.0  # since the epoch
        self.failures = 0
        self.due = 0.0  # BACKOFF: when to start; STOPPING: when to ask again, or to kill
        self.asked = 0  # how often it was asked to stop
        self.was_ready = False

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def is_ready(self) -> bool:
        return self.spec.ready is None or self.spec.ready(Run(self.pid or 0, self.started_at))


class Supervisor:
    """Runs `specs` until told to stop. `run` blocks; `stop` may be called from any thread or signal handler.

    `on_change` is told of every change of state and `on_tick` is called once per round, both on the main thread;
    they must return soon. `start_attempts`: a child that dies this often without ever having been ready ends
    everything with ChildFailedError (None: try for ever).
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        on_change: Callable[[Change], None] = lambda _: None,
        on_tick: Callable[[], None] = lambda: None,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        start_attempts: int | None = None,
    ) -> None:
        self.children = {spec.name: Child(spec) for spec in specs}
        self._on_change = on_change
        self._on_tick = on_tick
        self._backoff = backoff
        self._start_attempts = start_attempts
        self._stops = 0
        self._hurried = False
        self._failure: ChildFailedError | None = None
        self._wake = Wake()

    # ------------------------------------------------------------------ public

    def run(self) -> None:
        """Blocks until every child has stopped. Raises ChildFailedError. Main thread only: it takes the signals."""
        with self._wake.signals(_stop_signals(), lambda _: self.stop()), self:
            while not self.tick(time.monotonic()):
                self._wake.wait(self._pause())
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ask for the end; asked again, hurry."""
        self._stops += 1
        self._wake.set()

    def tick(self, now: float) -> bool:
        """One round: notice deaths, start what is due, or go on stopping. True when all have stopped."""
        for child in self.children.values():
            if child.process is not None and (code := child.process.poll()) is not None:
                self._exited(child, code, now)
        if self._stops:
            self._stop_some(now)
        else:
            self._start_some(now)
        self._on_tick()
        return all(child.state is State.STOPPED for child in self.children.values())

    @property
    def all_ready(self) -> bool:
        return all(child.state is State.READY for child in self.children.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Whatever went wrong in the loop, no child outlives it."""
        for child in self.children.values():
            if child.process is not None:
                kill_group(child.process, signal.SIGKILL)
                child.process.wait()
        self._wake.close()

    # ---------------------------------------------------------------- starting

    def _start_some(self, now: float) -> None:
        for child in self.children.values():
            if (child.state is State.WAITING and self._needs_met(child)) or (
                child.state is State.BACKOFF and now >= child.due
            ):
                self._start(child, now)
            if child.state is State.STARTING and child.is_ready():
                child.was_ready = True
                self._enter(child, State.READY)

    def _needs_met(self, child: Child) -> bool:
        return all(self.children[name].state is State.READY for name in child.spec.needs)

    def _start(self, child: Child, now: float) -> None:
        child.started, child.started_at = now, time.time()
        child.process = spawn(child.spec)
        self._enter(child, State.STARTING)

    # ------------------------------------------------------------------- dying

    def _exited(self, child: Child, code: int, now: float) -> None:
        pid, process = child.pid, child.process
        if process is not None:
            kill_group(process, signal.SIGKILL)  # whatever it started goes with it
        child.process = None
        if self._stops or child.spec.restart is Restart.NEVER:
            self._enter(child, State.STOPPED, pid=pid, exit_code=code)
            return
        child.failures = self._backoff.failures(child.failures, now - child.started)
        hopeless = self._is_hopeless(child, code)
        delay = None if hopeless else self._backoff.delay(child.failures)
        child.due = now + (delay or 0)
        self._enter(child, State.BACKOFF, pid=pid, exit_code=code, delay_s=delay)
        if self._backoff.crash_loop(child.failures):
            self._note(logging.ERROR, "child.crash_loop", child, failures=child.failures)
        if hopeless:
            self._give_up(child, code)

    def _is_hopeless(self, child: Child, code: int) -> bool:
        if child.was_ready or not self._start_attempts:
            return False
        return code == _EX_CONFIG or child.failures >= self._start_attempts

    def _give_up(self, child: Child, code: int) -> None:
        self._failure = self._failure or ChildFailedError(
            f"{child.spec.name} does not start: {describe_exit(code)} at attempt {child.failures}, before it was "
            f"ready; its last words are in {child.spec.log_path}"
        )
        self.stop()

    # ---------------------------------------------------------------- stopping

    def _stop_some(self, now: float) -> None:
        """Stop the last role that still lives; the next one's turn comes when it is gone."""
        for child in self.children.values():
            if child.state in {State.WAITING, State.BACKOFF}:
                self._enter(child, State.STOPPED)
        living = [child for child in self.children.values() if child.process is not None]
        if not living:
            return
        if self._stops > 1 and not self._hurried:
            self._hurried = True
            self._hurry(living, now)
        last_role = next(iter(itertools.groupby(reversed(living), key=lambda child: child.spec.role)))[0]
        for child in living:
            if child.asked == 0 and child.spec.role == last_role:
                self._ask_to_stop(child, now + child.spec.grace_s)
            elif child.asked == 1 and now >= child.due:
                self._ask_to_stop(child, now + _HURRY_S)
            elif child.asked > 1 and now >= child.due:
                self._kill(child)

    def _hurry(self, living: list[Child], now: float) -> None:
        for child in living:
            child.asked = 1
            self._ask_to_stop(child, now + _HURRY_S)

    def _ask_to_stop(self, child: Child, due: float) -> None:
        child.due = due
        child.asked += 1
        if child.process is not None:
            kill_group(child.process, child.spec.stop_signal)
        self._enter(child, State.STOPPING)

    def _kill(self, child: Child) -> None:
        self._note(logging.WARNING, "child.killed", child, grace_s=child.spec.grace_s)
        if child.process is not None:
            kill_group(child.process, signal.SIGKILL)
            child.process.wait()

    # ------------------------------------------------------------------- plumb

    def _enter(
        self,
        child: Child,
        state: State,
        *,
        pid: int | None = None,
        exit_code: int | None = None,
        delay_s: float | None = None,
    ) -> None:
        """The one place where a state changes."""
        child.state = state
        level = logging.WARNING if state is State.BACKOFF else logging.INFO
        self._note(level, f"child.{state}", child, pid=pid or child.pid, exit_code=exit_code, delay_s=delay_s)
        self._on_change(Change(child.spec, state, pid or child.pid, exit_code, delay_s, child.failures))

    def _note(self, level: int, action: str, child: Child, **fields: object) -> None:
        event(_LOG, level, action, child=child.spec.name, log=str(child.spec.log_path), **fields)

    def _pause(self) -> float:
        """How long to sleep: short while something starts or stops, else until a restart is due."""
        states = {child.state for child in self.children.values()}
        if states & {State.STARTING, State.STOPPING, State.WAITING}:
            return _BUSY_S
        due = [child.due - time.monotonic() for child in self.children.values() if child.state is State.BACKOFF]
        return max(0.0, min([*due, _IDLE_S]))
