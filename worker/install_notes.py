"""What the agent was asked and has not ended, noted beside the journals: a queue forgets a task it has handed out.

`<store>/.installs/<hash of the task id>.task`. An agent that starts asks itself again for what is noted, under the
same task id; a journal, where there is one, says how far it had come.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from tasks import atomic_file
from tasks.contract import Frozen, InstallRequest
from tasks.errors import PendraError
from tasks.logs import event
from worker.store.planner import WORK

_LOG = logging.getLogger("pendra.installer")
_SUFFIX = ".task"


class Note(Frozen):
    """One task of the agent."""

    v: int = 1
    task_id: str
    request: InstallRequest


@contextmanager
def noted(store: Path, task_id: str, request: InstallRequest) -> Iterator[None]:
    """Noted until the body ends by itself; kept when the process dies or drains. A store without room has none."""
    path = _path(store, task_id)
    with suppress(OSError):  # what is wrong with the store is told by the install itself
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_file.write(path, Note(task_id=task_id, request=request).model_dump_json())
    try:
        yield
    except PendraError as exc:
        if exc.code != "draining":
            _remove(path)
        raise
    _remove(path)


def left(store: Path) -> list[Note]:
    """Notes of an earlier life. Unreadable ones are removed (and logged)."""
    try:
        paths = sorted((store / WORK).glob(f"*{_SUFFIX}"))
    except OSError:
        return []
    return [note for path in paths if (note := _read(path))]


def _read(path: Path) -> Note | None:
    try:
        return Note.model_validate_json(path.read_bytes())
    except OSError:
        return None
    except ValidationError:
        event(_LOG, logging.WARNING, "install.note_unreadable", file=path.name)
        _remove(path)
        return None


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _path(store: Path, task_id: str) -> Path:
    return store / WORK / f"{hashlib.sha256(task_id.encode()).hexdigest()[:32]}{_SUFFIX}"
