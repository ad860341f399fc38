"""An engine without a model: one thread, `rate` steps a second, one token of every running reply a step.

Like a GPU it waits most of the time and takes all its replies along in one step. Every token carries the moment it
was made (CLOCK_MONOTONIC, the same in all processes of a machine) and its number, so that its reader can tell how
long it was on its way, and whether one is missing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Token:
    """One token of one reply. `number` is its place in the reply, from 0; `made_ns` is CLOCK_MONOTONIC."""

    reply_id: str
    number: int
    made_ns: int
    is_last: bool


@dataclass(slots=True)
class _Running:
    left: int
    number: int = 0


class SyntheticEngine:
    """`on_step` gets all tokens of a step, on the engine's thread, and must not block. The rest: any thread."""

    def __init__(self, rate: float, on_step: Callable[[list[Token]], None]) -> None:
        self._period_s = 1 / rate
        self._on_step = on_step
        self._running: dict[str, _Running] = {}
        self._new: list[tuple[str, _Running]] = []
        self._wake = threading.Condition()
        self._closed = False
        self.steps = 0
        self._thread = threading.Thread(target=self._run, name="synthetic-engine", daemon=True)
        self._thread.start()

    def submit(self, reply_id: str, tokens: int, *, first: int = 0) -> None:
        """The first token comes at once (a prefill that takes no time), the others with the engine's steps.

        `tokens` is at least 1, `first` the number of the first one; `reply_id` must not be running.
        """
        with self._wake:
            self._new.append((reply_id, _Running(tokens, first)))
            self._wake.notify()

    def cancel(self, reply_id: str) -> None:
        with self._wake:
            self._running.pop(reply_id, None)
            self._new = [new for new in self._new if new[0] != reply_id]

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    # ------------------------------------------------------------------ engine thread

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            with self._wake:
                self._await_work(due)
                if self._closed:
                    return
                now = time.monotonic()
                if now >= due:
                    due = max(due + self._period_s, now)  # a step that came late moves those after it, as on a GPU
                    step = self._step(list(self._running)) + self._begun()
                else:
                    step = self._begun()
            if step:
                self.steps += 1
                self._on_step(step)

    def _await_work(self, due: float) -> None:
        while not (self._closed or self._new):
            pause = due - time.monotonic() if self._running else None
            if pause is not None and pause <= 0:
                return
            self._wake.wait(pause)

    def _begun(self) -> list[Token]:
        new, self._new = self._new, []
        self._running |= new
        return self._step([reply_id for reply_id, _ in new])

    def _step(self, reply_ids: list[str]) -> list[Token]:
        now_ns = time.monotonic_ns()
        return [self._token(reply_id, now_ns) for reply_id in reply_ids]

    def _token(self, reply_id: str, now_ns: int) -> Token:
        reply = self._running[reply_id]
        token = Token(reply_id, reply.number, now_ns, is_last=reply.left <= 1)
        reply.number, reply.left = reply.number + 1, reply.left - 1
        if reply.left <= 0:
            del self._running[reply_id]
        return token
