"""What happens around every task, kept out of the tasks: how long it took, and what went wrong, as log events.

Only ids and durations: the arguments that are not ids stay unread.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import signals

from tasks.logs import event, where

_LOG = logging.getLogger("pendra.tasks")
_began: dict[str, float] = {}


def connect() -> None:
    """Connect the hooks, once per process; doing it again changes nothing."""
    signals.task_prerun.connect(_prerun, weak=False, dispatch_uid="pendra.prerun")
    signals.task_postrun.connect(_postrun, weak=False, dispatch_uid="pendra.postrun")
    signals.task_failure.connect(_failure, weak=False, dispatch_uid="pendra.failure")
    signals.task_unknown.connect(_unknown, weak=False, dispatch_uid="pendra.unknown")
    signals.task_rejected.connect(_rejected, weak=False, dispatch_uid="pendra.rejected")


def own_logging() -> None:
    """Tell Celery that logging is set up: a receiver of `setup_logging` is how it learns that. Idempotent."""
    signals.setup_logging.connect(_nothing, dispatch_uid="pendra.logging")


def _nothing(**_: Any) -> None:
    pass


def _prerun(task_id: str, **_: Any) -> None:
    _began[task_id] = time.monotonic()


def _postrun(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    began = _began.pop(task_id, None)
    ms = None if began is None else round((time.monotonic() - began) * 1000, 1)
    event(_LOG, logging.INFO, "task.done", task=task.name, task_id=task_id, state=state, ms=ms)


def _failure(task_id: str, exception: BaseException, sender: Any = None, **_: Any) -> None:
    name = getattr(sender, "name", None)
    error = type(exception).__name__
    event(_LOG, logging.ERROR, "task.failed", task=name, task_id=task_id, error=error, at=where(exception))


def _unknown(name: str = "", id: str = "", **_: Any) -> None:  # noqa: A002  # Celery's name
    event(_LOG, logging.ERROR, "task.unknown", task=name, task_id=id)


def _rejected(**_: Any) -> None:
    event(_LOG, logging.ERROR, "task.rejected")
