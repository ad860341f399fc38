"""Install and uninstall models in the store directory of this host.

    lock → decide → room on the disk → fetch and hash → compare → header → sidecar → rename

A model is visible (`<name>.gguf` exists) only when it is whole and its hash is right; the sidecar is there first.
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks import atomic_file, file_lock
from tasks.errors import NotFoundError, PendraError
from worker.store import download, sidecar
from worker.store.catalogue import Catalogue
from worker.store.download import Progress
from worker.store.errors import ChecksumError, DiskFullError, StoreError
from worker.store.gguf import read_gguf, split_of
from worker.store.partial import Partial, hash_file
from worker.store.planner import (
    Action,
    InstallSpec,
    Present,
    Stage,
    Target,
    check_room,
    decide,
    needed_bytes,
    target,
)
from worker.store.sidecar import Sidecar
from worker.store.sources import public

_LOCK_TIMEOUT_S = 4 * 3600.0  # as long as somebody else may take for a very large model


@dataclass(frozen=True, slots=True)
class Installed:
    """`fetched`: False when it was there already."""

    path: Path
    sidecar: Sidecar
    fetched: bool


def install(spec: InstallSpec, store: Path, progress: Progress) -> Installed:
    """Have the model in `store`. Blocking; may be called again after any failure, and at the same time elsewhere.

    Raises StoreError; its subclasses and codes say what is wrong.
    """
    goal = target(spec, store)
    with _writing(store), _alone(goal, progress):
        present = _present(goal.path)
        action = decide(spec, present)
        if action is Action.NOTHING and present.sidecar:
            return Installed(goal.path, present.sidecar, fetched=False)
        if action is Action.ADOPT and (found := _adopt(goal, progress)):
            return Installed(goal.path, found, fetched=False)
        return Installed(goal.path, _fetch(goal, progress), fetched=True)


def uninstall(model_id: str, store: Path) -> list[Path]:
    """Remove the model's files (all parts of a split one) and sidecar; what was removed. Blocking.

    Raises NotFoundError when it is not installed.
    """
    path = find(model_id, store)
    if path is None:
        raise NotFoundError(f"{model_id} is not installed in {store}", code="model_not_installed")
    with _writing(store):
        gone = parts_of(path)
        for part in gone:
            part.unlink(missing_ok=True)
        sidecar.path_of(path).unlink(missing_ok=True)
        atomic_file.sync_folder(path.parent)
    return gone


def find(model_id: str, store: Path) -> Path | None:
    """The model's file (of a split one the first), which may be a broken one. Blocking."""
    entry = Catalogue(store).find(model_id)
    return entry.path if entry else None


def parts_of(path: Path) -> list[Path]:
    """All files there are of a split GGUF (`name-00001-of-00003.gguf`), or just the file."""
    split = split_of(path)
    if split is None:
        return [path]
    parts = (path.with_name(split.name(number)) for number in range(1, split.count + 1))
    return [part for part in parts if part.exists()]


def _present(path: Path) -> Present:
    try:
        return Present(path.stat().st_size, sidecar.read(path))
    except FileNotFoundError:
        return Present()


def _adopt(goal: Target, progress: Progress) -> Sidecar | None:
    """Vouch for a file that is there already, if it is the right one; else move it out of the way."""
    size = goal.path.stat().st_size
    if hash_file(goal.path, lambda done: progress(Stage.CHECKING, done, size)) != goal.spec.sha256:
        goal.path.replace(goal.quarantine)
        return None
    _check_header(goal, goal.path)
    return _write_sidecar(goal, goal.spec.sha256, size)


def _fetch(goal: Target, progress: Progress) -> Sidecar:
    _check_room(goal)
    with Partial(goal.part, public(goal.spec.source), goal.spec.sha256) as part:
        download.fetch(goal, part, progress)
        progress(Stage.VERIFYING, part.size, part.size)
        try:
            _compare(goal, part.sha256)
            _check_header(goal, goal.part)
        except StoreError:
            part.path.replace(goal.quarantine)
            part.discard()
            raise
        part.sync()
        written = _write_sidecar(goal, part.sha256, part.size)
        part.path.replace(goal.path)
        part.discard()
    atomic_file.sync_folder(goal.path.parent)
    progress(Stage.DONE, written.size, written.size)
    return written


def _check_room(goal: Target) -> None:
    store = goal.path.parent
    partial = goal.part.stat().st_size if goal.part.exists() else 0
    needed = needed_bytes(goal.source, download.source_size(goal), partial)
    check_room(needed, shutil.disk_usage(store).free, store)


def _compare(goal: Target, found: str) -> None:
    if goal.spec.sha256 and found != goal.spec.sha256:
        raise ChecksumError(
            f"{goal.spec.id} from {public(goal.spec.source)} is not the file that was meant: SHA-256 {found}, "
            f"expected {goal.spec.sha256}; it was put aside as {goal.quarantine}"
        )


def _check_header(goal: Target, path: Path) -> None:
    """Raises StoreError(model_corrupt) for a file that llama.cpp could not read."""
    try:
        read_gguf(path)
    except PendraError as exc:
        raise StoreError(f"what {public(goal.spec.source)} gave: {exc.message}", code="model_corrupt") from None


def _write_sidecar(goal: Target, sha256: str, size: int) -> Sidecar:
    made = Sidecar(
        id=goal.spec.id,
        purpose=goal.spec.purpose,
        source=public(goal.spec.source),
        revision=goal.source.revision,
        sha256=sha256,
        size=size,
        licence=goal.spec.licence,
        installed_at=round(time.time(), 3),
    )
    atomic_file.write(sidecar.path_of(goal.path), sidecar.dump(made), mode=0o644)
    return made


@contextmanager
def _alone(goal: Target, progress: Progress) -> Iterator[None]:
    """The model's lock, which falls when its holder dies."""
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock.held(goal.lock, 0))
        except TimeoutError:
            progress(Stage.WAITING, 0, None)
            stack.enter_context(file_lock.held(goal.lock, _LOCK_TIMEOUT_S))
        yield


@contextmanager
def _writing(store: Path) -> Iterator[None]:
    """Make the store, and say in words why it cannot be written."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        yield
    except TimeoutError as exc:
        raise StoreError(f"another process has been installing the same model for hours: {exc}") from None
    except OSError as exc:
        if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(f"{store} is full; make room, or set PENDRA_MODELS_DIR to another disk") from None
        raise StoreError(f"{store} cannot be used as models folder: {exc.strerror}", code="store_unusable") from None
