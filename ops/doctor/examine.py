"""All checks at once, each with its time. Prints nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ops.doctor.verdict import Verdict, failed
from tasks.logs import where

LIMIT_S = 15.0

Look = Callable[[], Iterable[Verdict]]


@dataclass(slots=True)
class _Running:
    """A check on its thread. A daemon: one that hangs must not keep the command alive."""

    name: str
    look: Look
    verdicts: tuple[Verdict, ...] | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name=f"doctor-{self.name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.verdicts = tuple(self.look())
        except Exception as exc:  # noqa: BLE001  # a check that breaks must not hide what the others found
            found = f"the check itself failed: {type(exc).__name__} at {where(exc)}"
            self.verdicts = (failed(self.name, found, "report this, with the output of `pendra doctor --json`"),)


def examine(checks: Mapping[str, Look], limit_s: float = LIMIT_S) -> list[Verdict]:
    """The verdicts, in the checks' order. Blocks until all have ended, `limit_s` at most; never raises."""
    running = [_Running(name, look) for name, look in checks.items()]
    deadline = time.monotonic() + limit_s
    out: list[Verdict] = []
    for one in running:
        one.thread.join(max(0.0, deadline - time.monotonic()))
        out += one.verdicts if one.verdicts is not None else (_late(one.name, limit_s),)
    return out


def _late(name: str, limit_s: float) -> Verdict:
    found = f"no answer within {limit_s:g} s"
    return failed(name, found, "something that this check asks hangs: a disk, a name server, a driver")
