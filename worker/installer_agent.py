"""The installer agent of a host: one process that owns the model store. `python -m worker.installer_agent`.

Celery (`worker.installer_agent_program`) brings the tasks of `install.<node>`; what they do is here. At its start the
agent takes up what an earlier life left unfinished.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.contract import InstallRequest
from tasks.errors import ConfigError, PendraError
from tasks.logs import event
from tasks.redis_client import connect
from tasks.settings import Settings
from worker.install_leftovers import Leftovers
from worker.install_notes import noted
from worker.install_report import Report
from worker.install_tickets import Tickets
from worker.store import curated, reach, upkeep
from worker.store.catalogue import Catalogue
from worker.store.installer import install
from worker.store.planner import InstallSpec
from worker.store.run import Stop, Transfer
from worker.store.throttle import Throttle
from worker.unloading import Unloading

if TYPE_CHECKING:
    from worker.external_models import ExternalModels

_LOG = logging.getLogger("pendra.installer")
EX_CONFIG = 78  # sysexits.h


class Agent:
    """All methods from any thread."""

    def __init__(self, settings: Settings) -> None:
        self.node = settings.worker_id
        self.store = settings.models_dir
        self._settings = settings
        self._catalogue_url = settings.catalogue_url
        self._transfer = Transfer(
            throttle=Throttle(settings.download_limit), public_only=not settings.private_sources
        )
        self._client = connect(settings.redis_url)
        self._unloading = Unloading(self._client, self.node)
        self._tickets = Tickets(self._client)
        self._leftovers = Leftovers(self.store, self.node)

    # ---------------------------------------------------------------------- tasks

    def install(self, request: InstallRequest, task: Any) -> dict[str, Any]:
        """Run one install to its end. Blocks. Raises PendraError; `draining` when it goes on after a restart."""
        task_id = str(task.request.id)
        report = Report(task, task_id, request.model, self.node)
        with self._tickets.running(task_id, request.model) as ticket, noted(self.store, task_id, request):
            stop = partial(self._tickets.why_stop, task_id, ticket)
            kept = self._leftovers.spec_of(request, task_id)
            catalogue = curated.load() if kept or request.source else curated.load_from(self._catalogue_url)
            backend = curated.backend_of(request.model, request.backend, catalogue)
            if backend != curated.PENDRA:
                return self._install_at(backend, request, catalogue, report, stop)
            spec = kept or curated.spec_for(request, catalogue)
            return self._install_here(spec, task_id, report, stop)

    def _install_here(
        self, spec: InstallSpec, task_id: str, report: Report, stop: Callable[[], Stop | None]
    ) -> dict[str, Any]:
        if self._transfer.public_only:
            reach.check(spec)
        done = install(spec, self.store, report, stop=stop, transfer=self._transfer, task_id=task_id)
        side = done.sidecar
        return {
            "model": side.id,
            "node": self.node,
            "path": str(done.path),
            "sha256": side.sha256,
            "size": sum(part.size for part in side.parts) or side.size,
            "fetched": done.fetched,
        }

    def _install_at(
        self,
        backend: str,
        request: InstallRequest,
        catalogue: curated.Catalogue,
        report: Report,
        stop: Callable[[], Stop | None],
    ) -> dict[str, Any]:
        """Another server fetches it; the proxy worker is told to look, so that it is served at once."""
        name = curated.name_at(backend, request, catalogue)
        done = self._external().install(backend, name, report, stop)
        self._unloading.restore(request.model)
        told = {"backend": backend, "name": name, "url": done.url, "fetched": done.fetched}
        return {"model": request.model, "node": self.node} | told

    def _uninstall_at(self, backend: str, model: str, catalogue: curated.Catalogue) -> dict[str, Any]:
        name = curated.name_at(backend, InstallRequest(model=model), catalogue)
        url = self._external().uninstall(backend, name)
        self._unloading.restore(model)
        event(_LOG, logging.INFO, "uninstall.done", model=model, backend=backend)
        return {"model": model, "node": self.node, "backend": backend, "name": name, "url": url, "removed": [name]}

    def _external(self) -> ExternalModels:
        from worker.external_models import ExternalModels  # noqa: PLC0415  # most hosts have no other servers

        return ExternalModels(self._settings)

    def uninstall(self, model: str, backend: str | None, *, force: bool, task_id: str) -> dict[str, Any]:
        """Take a model off this host's workers and its disk. Blocks.

        Raises NotFoundError, ModelInUseError while jobs use it (with `force` it waits for them instead).
        """
        catalogue = curated.load_known(self._catalogue_url)
        whose = curated.backend_of(model, backend, catalogue)
        if whose != curated.PENDRA:
            return self._uninstall_at(whose, model, catalogue)
        entry = Catalogue(self.store).find(model)
        if entry is None:
            return self._removed(model)
        self._unloading.unload(model, force=force, request_id=task_id)
        try:
            return self._removed(model)
        except PendraError:
            self._unloading.restore(model)
            raise

    def cancel(self, target: str, *, discard: bool) -> list[str]:
        """Stop installs by task id or model id; the task ids that were hit. `discard`: and what came so far."""
        hit = self._tickets.cancel(target, Stop.DISCARD if discard else Stop.KEEP)
        if discard and not hit:
            self._leftovers.discard(target)
        event(_LOG, logging.INFO, "install.cancel", target=target, discard=discard, running=len(hit))
        return hit

    # ------------------------------------------------------------------ life cycle

    def start(self, app: Any) -> None:
        """Celery consumes: sweep what nobody explains, and queue what is unfinished, under its own task id."""
        swept = self._leftovers.sweep()
        event(_LOG, logging.INFO, "agent.started", node=self.node, store=str(self.store), swept=swept)
        self._leftovers.ask_again(app)

    def drain(self) -> None:
        """The process is about to end: installs stop soon, and go on at the next start. Takes no lock."""
        self._tickets.drain()

    def close(self) -> None:
        self._client.close()
        event(_LOG, logging.INFO, "agent.stopped", node=self.node)

    # ----------------------------------------------------------------------- parts

    def _removed(self, model: str) -> dict[str, Any]:
        gone = upkeep.uninstall(model, self.store)
        event(_LOG, logging.INFO, "uninstall.done", model=model, files=len(gone))
        return {"model": model, "node": self.node, "removed": [str(path) for path in gone]}


# The agent of this interpreter, for the tasks: Celery calls a function and gives it nothing but its arguments.
_current: Agent | None = None


def install_agent(agent: Agent) -> None:
    global _current  # noqa: PLW0603  # one per interpreter, set once by the program
    _current = agent


def current() -> Agent:
    """The running agent. Raises ConfigError where none was started."""
    if _current is None:
        raise ConfigError("no installer agent runs here: installs go to the queue install.<node> of a host's agent")
    return _current


def main() -> int:
    """Start the agent's Celery program and block until it has ended. Returns the exit code."""
    from tasks import app  # noqa: PLC0415  # reads the settings

    program = app.subclass_with_self("worker.installer_agent_program:AgentProgram")
    worker = program(quiet=True)
    worker.start()
    return int(worker.exitcode or 0)


def _entry() -> int:
    # run as a script this file is `__main__`; the tasks must find their agent in `worker.installer_agent`
    from worker.installer_agent import main as entry  # noqa: PLC0415

    try:
        return entry()
    except ConfigError as exc:
        sys.stderr.write(f"installer agent: {exc.message}\n")
        return EX_CONFIG


if __name__ == "__main__":
    sys.exit(_entry())
