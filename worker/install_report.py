"""Telling the fleet how far an install is: a Celery state, and a `task-progress` event with a line for people."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from tasks.celery_config import PROGRESS
from tasks.contract import InstallProgress
from tasks.logs import event
from worker.store.planner import human

_LOG = logging.getLogger("pendra.installer")
_EVERY_S = 0.5
_SMOOTH = 0.3  # weight of the newest rate


class Rate:
    """Bytes a second, smoothed. Pure but for what it remembers."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self._rate: float | None = None

    def __call__(self, now: float, done: int) -> float | None:
        last, self._last = self._last, (now, done)
        if last is None or now <= last[0] or done < last[1]:
            self._rate = None
            return None
        fresh = (done - last[1]) / (now - last[0])
        self._rate = fresh if self._rate is None else _SMOOTH * fresh + (1 - _SMOOTH) * self._rate
        return self._rate


class Report:
    """The progress callback of one task. Called often by the install's thread; tells twice a second."""

    def __init__(
        self, task: Any, task_id: str, model: str, node: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._task = task
        self._id = task_id
        self._model = model
        self._node = node
        self._clock = clock
        self._rate = Rate()
        self._stage: str | None = None
        self._told = float("-inf")

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = self._clock()
        if stage == self._stage and now - self._told < _EVERY_S:
            return
        if stage is not self._stage:
            self._rate = Rate()
        self._stage, self._told = stage, now
        rate = self._rate(now, done)
        eta = (total - done) / rate if rate and total else None
        self._tell(
            InstallProgress(
                model=self._model,
                node=self._node,
                stage=str(stage),
                done=done,
                total=total,
                rate=None if rate is None else round(rate, 1),
                eta=None if eta is None else round(eta, 1),
            )
        )

    def _tell(self, progress: InstallProgress) -> None:
        """Nobody may hear it (Redis is away): the install goes on all the same."""
        try:
            self._task.update_state(task_id=self._id, state=PROGRESS, meta=progress.model_dump())
            # Flower shows an event's `result` on the task's page
            self._task.send_event("task-progress", retry=False, result=summary(progress), **progress.model_dump())
        except Exception as exc:  # noqa: BLE001  # whatever the broker's library raises
            event(_LOG, logging.WARNING, "install.untold", task_id=self._id, error=type(exc).__name__)


def summary(progress: InstallProgress) -> str:
    """`downloading 12.0 MB of 98.4 MB (12 %), 5.1 MB/s, 17 s left`."""
    words = progress.stage
    if progress.total:
        words += f" {human(progress.done)} of {human(progress.total)} ({progress.fraction:.0%})".replace("%", " %")
    elif progress.done:
        words += f" {human(progress.done)}"
    if progress.rate:
        words += f", {human(progress.rate)}/s"
    return words + (f", {progress.eta:.0f} s left" if progress.eta is not None else "")
