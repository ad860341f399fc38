"""Installing a model into the store directory of this host.

    lock → journal → resolve → room → download → compare hashes → header → sidecar → rename

`planner.next_step` decides, `fetching` does. A model is visible (`<name>.gguf` exists) only when it is whole and
its hash is right; the sidecar is there first, and of a split model the first file comes last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks import atomic_file
from worker.store import journal, sidecar, workplace
from worker.store.catalogue import Catalogue
from worker.store.errors import (
    SourceError,
)
from worker.store.fetching import Fetch
from worker.store.gguf import read_gguf, split_of
from worker.store.partial import hash_file
from worker.store.planner import (
    Action,
    InstallSpec,
    Present,
    Stage,
    Target,
    decide,
    target,
)
from worker.store.run import Progress, Run, Stop, Transfer, never
from worker.store.sidecar import Sidecar


@dataclass(frozen=True, slots=True)
class Installed:
    """`fetched`: False when it was there already."""

    path: Path
    sidecar: Sidecar
    fetched: bool


def install(
    spec: InstallSpec,
    store: Path,
    progress: Progress,
    *,
    stop: Callable[[], Stop | None] = never,
    transfer: Transfer | None = None,
    task_id: str | None = None,
) -> Installed:
    """Have the model in `store`. Blocking; may be called again after any failure, and at the same time elsewhere.

    Raises StoreError; its subclasses and codes say what is wrong. InstallCancelled when `stop` says so.
    """
    goal = target(spec, store)
    run = Run(progress, stop, transfer or Transfer())
    with workplace.writable(store), workplace.alone(goal, run):
        workplace.sweep(store)
        present = _present(goal)
        action = decide(spec, present)
        if action is Action.NOTHING and present.sidecar:
            journal.remove(goal.work)  # of an install that died after its last step
            return Installed(goal.path, present.sidecar, fetched=False)
        _refuse_twin(spec, goal)
        if action is Action.ADOPT and (found := _adopt(goal, run)):
            return Installed(goal.path, found, fetched=False)
        return Installed(goal.path, Fetch(goal, run, task_id).run(), fetched=True)


def find(model_id: str, store: Path) -> Path | None:
    """The model's file (of a split one the first), which may be a broken one. Blocking."""
    entry = Catalogue(store).find(model_id)
    return entry.path if entry else None


# ------------------------------------------------------------------ what is there already


def _present(goal: Target) -> Present:
    """A split model is there when all its files are, each as large as its sidecar says."""
    known = sidecar.read(goal.path)
    try:
        size = goal.path.stat().st_size
        for part in known.parts if known else ():
            if goal.path.with_name(part.name).stat().st_size != part.size:
                return Present(-1, known)
    except FileNotFoundError:
        return Present(None, known)
    return Present(size, known)


def _refuse_twin(spec: InstallSpec, goal: Target) -> None:
    """One id, one file: of two the second would never be served."""
    other = find(spec.id, goal.store)
    if other is not None and other != goal.path:
        raise SourceError(f"{spec.id} is installed already, as {other.name}; uninstall it first")


def _adopt(goal: Target, run: Run) -> Sidecar | None:
    """Vouch for a file that is there already, if it is the right one; else move it out of the way."""
    size = goal.path.stat().st_size

    def tell(done: int) -> None:
        run.check()
        run.progress(Stage.CHECKING, done, size)

    if split_of(goal.path) is not None or hash_file(goal.path, tell) != goal.spec.sha256:
        aside = goal.quarantine(goal.path.name)
        aside.parent.mkdir(exist_ok=True)
        goal.path.replace(aside)
        return None
    read_gguf(goal.path)
    made = Sidecar(
        id=goal.spec.id,
        purpose=goal.spec.purpose,
        source=goal.origin,
        revision=goal.source.revision,
        sha256=goal.spec.sha256,
        size=size,
        licence=goal.spec.licence,
        installed_at=round(time.time(), 3),
        lora=sidecar.adapters_of(goal.path),
    )
    atomic_file.write(sidecar.path_of(goal.path), sidecar.dump(made), mode=0o644)
    return made
