"""What an install writes down before it does it, so that whoever comes after a crash can go on.

`<store>/.installs/<file>.d/journal.json`, readable by its owner only: the source in it may carry a signature.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path

from pydantic import Field, ValidationError

from tasks import atomic_file
from tasks.contract import Frozen
from worker.store.planner import WORK, InstallSpec
from worker.store.sidecar import Sidecar
from worker.store.spans import Span

NAME = "journal.json"


class Standing(StrEnum):
    """RUNNING journals are taken up again when the agent starts; the others wait until somebody asks."""

    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"


class FileMark(Frozen):
    """One file of the model. `spans` are (start, end, have); `validator` names the version they are of (ETag).

    `mirror` is the number of the source they came from.
    """

    name: str
    sha256: str = ""
    size: int | None = None
    spans: tuple[tuple[int, int | None, int], ...] = ()
    validator: str = ""
    mirror: int = 0

    @property
    def pieces(self) -> tuple[Span, ...]:
        return tuple(Span(*span) for span in self.spans)


class Journal(Frozen):
    """`spec` are the fields of the InstallSpec. `files` is empty until the source has been resolved.

    `sidecar` is there once everything is checked and on disk: then only renames are left. `task_id`: who asked.
    """

    v: int = 1
    spec: dict[str, str | int | tuple[str, ...] | None] = Field(repr=False)
    standing: Standing = Standing.RUNNING
    revision: str = ""
    files: tuple[FileMark, ...] = ()
    sidecar: Sidecar | None = None
    task_id: str | None = None

    @property
    def model(self) -> str:
        return str(self.spec.get("id", ""))

    def install_spec(self) -> InstallSpec:
        values = dict(self.spec)
        mirrors = values.pop("mirrors", None) or ()
        return InstallSpec(**values, mirrors=tuple(mirrors))  # type: ignore[arg-type]  # our own fields, see `begin`


def begin(spec: InstallSpec, task_id: str | None) -> Journal:
    return Journal(spec=asdict(spec), task_id=task_id)


def same(journal: Journal, spec: InstallSpec) -> bool:
    """Whether what an earlier install left can be gone on with."""
    old = journal.spec
    return old.get("source") == spec.source and (old.get("sha256") or "") == spec.sha256


def read(work: Path) -> Journal | None:
    """The journal in a work folder; None when there is none that can be used."""
    try:
        return Journal.model_validate_json((work / NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def write(work: Path, journal: Journal) -> None:
    """Raises OSError; the old one stays then."""
    atomic_file.write(work / NAME, journal.model_dump_json())


def unfinished(store: Path) -> list[tuple[Path, Journal]]:
    """Work folders with a journal. Blocking."""
    found = ((work, read(work)) for work in _folders(store))
    return [(work, journal) for work, journal in found if journal is not None]


def strays(store: Path) -> list[Path]:
    """Work folders without a journal: left by a crash before anything was promised."""
    return [work for work in _folders(store) if read(work) is None]


def remove(work: Path) -> None:
    """The journal goes last, so that a crash in between leaves something that explains itself."""
    with contextlib.suppress(FileNotFoundError):
        for path in work.iterdir():
            if path.name == NAME:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)


def _folders(store: Path) -> list[Path]:
    try:
        return sorted(path for path in (store / WORK).iterdir() if path.is_dir())
    except OSError:
        return []
