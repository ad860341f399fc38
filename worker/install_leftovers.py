"""What an earlier life of the installer agent left unfinished: swept, asked for again, or thrown away. Blocking."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tasks import keys
from tasks.celery_config import INSTALL
from tasks.contract import InstallRequest
from tasks.logs import event
from worker.install_notes import left
from worker.store import journal, workplace
from worker.store.planner import InstallSpec

_LOG = logging.getLogger("pendra.installer")


class Leftovers:
    """Those of one store. `node`: whose agent is asked again. Any thread."""

    def __init__(self, store: Path, node: str) -> None:
        self._store = store
        self._node = node

    def sweep(self) -> int:
        """Remove what no journal explains; how many work folders that were."""
        return len(workplace.sweep(self._store))

    def ask_again(self, app: Any) -> None:
        """Queue what is unfinished, under its own task id."""
        notes = left(self._store)
        for note in notes:
            arguments = note.request.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
            self._ask(app, note.task_id, arguments)
        again = {note.task_id for note in notes}
        for work, kept in journal.unfinished(self._store):
            running = kept.standing is journal.Standing.RUNNING and kept.task_id not in again
            if running and not workplace.busy(self._store, work.name.removesuffix(".d")):
                self._ask(app, kept.task_id, _arguments_of(kept.install_spec()))

    def spec_of(self, request: InstallRequest, task_id: str) -> InstallSpec | None:
        """A resumed install is what its journal says, whatever the catalogue says now. None: it is a new one."""
        for _, kept in journal.unfinished(self._store):
            if kept.task_id == task_id and kept.model == request.model:
                return kept.install_spec()
        return None

    def discard(self, target: str) -> None:
        """Throw away what paused installs of this task id or model id have fetched."""
        for work, kept in journal.unfinished(self._store):
            if target in {kept.model, kept.task_id}:
                lock = workplace.lock_of(self._store, work.name.removesuffix(".d"))
                with workplace.now_or_never(lock, kept.model):
                    journal.remove(work)

    def _ask(self, app: Any, task_id: str | None, arguments: dict[str, Any]) -> None:
        event(_LOG, logging.INFO, "install.resumed", model=arguments["model"], task_id=task_id)
        app.send_task(INSTALL, kwargs=arguments, task_id=task_id, queue=keys.install_queue(self._node))


def _arguments_of(spec: InstallSpec) -> dict[str, Any]:
    """What `tasks.install_model` is asked for such an install."""
    return {
        "model": spec.id,
        "source": spec.source,
        "sha256": spec.sha256 or None,
        "size": spec.size,
        "purpose": spec.purpose,
        "licence": spec.licence,
        "mirrors": list(spec.mirrors),
    }
