"""Looking after what is installed: uninstall, verify, prune. Blocking."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks import atomic_file
from tasks.errors import NotFoundError
from worker.store import journal, sidecar, workplace
from worker.store.catalogue import Catalogue, Entry
from worker.store.gguf import split_of
from worker.store.journal import Standing
from worker.store.partial import Tick, hash_file
from worker.store.planner import QUARANTINE, WORK
from worker.store.sidecar import Part


@dataclass(frozen=True, slots=True)
class Verdict:
    """What re-hashing an installed model found. `problem` "" = it is what was installed."""

    id: str
    path: Path
    problem: str = ""
    hashed: bool = True


def uninstall(model_id: str, store: Path) -> list[Path]:
    """Remove the model's files (all parts of a split one), sidecar and partials; the files that were removed.

    Raises NotFoundError when there is nothing of it, ModelInUseError(`install_running`) while it is installed.
    """
    entry = Catalogue(store).find(model_id)
    if entry is None and not _works_of(model_id, store):
        raise NotFoundError(f"{model_id} is not installed in {store}", code="model_not_installed")
    gone: list[Path] = []
    with workplace.writable(store):
        discard_partials(model_id, store)
        if entry is not None:
            with workplace.now_or_never(workplace.lock_of(store, entry.path.name), model_id):
                gone = _remove(entry.path)
    return gone


def verify(store: Path, model_id: str | None, tick: Tick) -> Iterator[Verdict]:
    """Re-hash what is installed (all of it for None) against the sidecars. Raises NotFoundError for an unknown id."""
    entries = [entry for entry in Catalogue(store).entries() if model_id in (None, entry.id)]
    if model_id is not None and not entries:
        raise NotFoundError(f"{model_id} is not installed in {store}", code="model_not_installed")
    for entry in entries:
        yield _verdict(entry, tick)


def prune(store: Path) -> list[tuple[Path, int]]:
    """Remove what nobody needs: partials nobody works on, rejected files; what was removed and its size."""
    gone = []
    with workplace.writable(store):
        for work in sorted(path for path in _children(store / WORK) if path.is_dir()):
            with contextlib.suppress(PermissionError), contextlib.ExitStack() as stack:
                if not workplace.took(stack, _lock_of(work, store)):
                    continue
                kept = journal.read(work)
                if kept is not None and kept.standing is Standing.RUNNING:
                    continue
                gone.append((work, _size(work)))
                journal.remove(work)
        for path in _children(store / QUARANTINE):
            gone.append((path, path.stat().st_size))
            path.unlink(missing_ok=True)
    return gone


def discard_partials(model_id: str, store: Path) -> None:
    """Throw away what came of a model. Raises ModelInUseError while it is installed."""
    for work in _works_of(model_id, store):
        with workplace.now_or_never(_lock_of(work, store), model_id):
            journal.remove(work)


def parts_of(path: Path) -> list[Path]:
    """All files there are of a split GGUF (`name-00001-of-00003.gguf`), or just the file."""
    split = split_of(path)
    if split is None:
        return [path]
    parts = (path.with_name(split.name(number)) for number in range(1, split.count + 1))
    return [part for part in parts if part.exists()]


def _remove(path: Path) -> list[Path]:
    """The first file goes first: without it the model is not visible, whatever happens to the rest."""
    gone = parts_of(path)
    for part in gone:
        part.unlink(missing_ok=True)
    sidecar.path_of(path).unlink(missing_ok=True)
    atomic_file.sync_folder(path.parent)
    return gone


def _verdict(entry: Entry, tick: Tick) -> Verdict:
    known = sidecar.read(entry.path)
    if known is None:
        words = entry.problem.message if entry.problem else ""
        return Verdict(entry.id, entry.path, words, hashed=False)
    for part in known.parts or (Part(name=entry.path.name, sha256=known.sha256, size=known.size),):
        try:
            found = hash_file(entry.path.with_name(part.name), tick)
        except OSError as exc:
            return Verdict(entry.id, entry.path, f"{part.name} cannot be read: {exc.strerror}")
        if found != part.sha256:
            words = (
                f"{part.name} has the SHA-256 {found}, installed was {part.sha256}; uninstall it and install it again"
            )
            return Verdict(entry.id, entry.path, words)
    return Verdict(entry.id, entry.path, entry.problem.message if entry.problem else "")


def _works_of(model_id: str, store: Path) -> list[Path]:
    return [work for work, kept in journal.unfinished(store) if kept.model == model_id]


def _lock_of(work: Path, store: Path) -> Path:
    return workplace.lock_of(store, work.name.removesuffix(".d"))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
