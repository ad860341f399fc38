"""Advisories in OSV's form (https://ossf.github.io/osv-schema/), and whether one is about a version. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from tasks.errors import ConfigError

PYPI = "PyPI"
KNOWN = Path(__file__).parent / "known.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Bound(_Record):
    """One event of a range: exactly one of these is set. `introduced` "0" is before every version."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None


class Range(_Record):
    type: str = "ECOSYSTEM"
    events: tuple[Bound, ...] = ()

    def holds(self, version: Version) -> bool:
        """OSV's rule: of the events in order, the last one at or before `version` says."""
        inside = False
        for event in sorted(self.events, key=_place):
            if event.introduced is not None:
                inside |= _place(event)[0] <= version
            elif event.fixed is not None:
                inside &= version < Version(event.fixed)
            elif event.last_affected is not None:
                inside &= version <= Version(event.last_affected)
        return inside


class Package(_Record):
    name: str
    ecosystem: str

    @field_validator("name")
    @classmethod
    def _canonical(cls, name: str) -> str:
        return canonicalize_name(name)  # pip-audit looks for the fixed version under this name


class Affected(_Record):
    package: Package
    ranges: tuple[Range, ...] = ()
    versions: tuple[str, ...] = ()

    def holds(self, version: Version) -> bool:
        return any(version == _version(text) for text in self.versions) or any(
            each.type == "ECOSYSTEM" and each.holds(version) for each in self.ranges
        )


class Advisory(_Record):
    """`id`, the other names it goes by, and the versions it is about."""

    id: str
    aliases: tuple[str, ...] = ()
    summary: str | None = None
    details: str | None = None
    published: str | None = None
    withdrawn: str | None = None
    affected: tuple[Affected, ...] = ()

    def packages(self) -> frozenset[str]:
        return frozenset(each.package.name for each in self.affected if each.package.ecosystem == PYPI)

    def about(self, package: str, version: Version) -> bool:
        mine = [each for each in self.affected if each.package == Package(name=package, ecosystem=PYPI)]
        return self.withdrawn is None and any(each.holds(version) for each in mine)


class Accepted(_Record):
    """A finding that stays, and why it does no harm here."""

    id: str
    package: str
    why: str


class Kept(_Record):
    """`known.json`. `looked_over`: when it was last worked on; `reaches`: the month of the newest source then."""

    looked_over: str
    reaches: str
    accepted: tuple[Accepted, ...] = ()
    advisories: tuple[Advisory, ...] = ()


class Book:
    """Advisories by package. Immutable after it was made; any thread."""

    def __init__(self, advisories: Iterable[Advisory]) -> None:
        found: defaultdict[str, list[Advisory]] = defaultdict(list)
        for advisory in advisories:
            for package in advisory.packages():
                found[package].append(advisory)
        self._found: Mapping[str, list[Advisory]] = dict(found)

    def __len__(self) -> int:
        return len({advisory.id for group in self._found.values() for advisory in group})

    def about(self, package: str, version: str) -> tuple[Advisory, ...]:
        """Those about this version. Raises ValueError when it is none (PEP 440)."""
        name, parsed = canonicalize_name(package), Version(version)
        return tuple(each for each in self._found.get(name, ()) if each.about(name, parsed))


def read_kept(path: Path = KNOWN) -> Kept:
    """Raises ConfigError, naming the file, when it is not what we keep."""
    try:
        raw = json.loads(path.read_bytes())
        rows = [_full(row) for row in raw["advisories"]]
        return Kept.model_validate({**raw, "advisories": rows})
    except (OSError, KeyError, TypeError, ValueError, ValidationError) as exc:
        raise ConfigError(f"{path} cannot be read as our list of advisories: {exc}") from None


def _full(row: Mapping[str, object]) -> dict[str, object]:
    """A row of `known.json` as OSV writes it."""
    bounds = ({"introduced": row.get("introduced", "0")}, {k: row[k] for k in ("fixed", "last_affected") if k in row})
    affected = {"package": {"name": row["package"], "ecosystem": PYPI}, "ranges": [{"events": bounds}]}
    return {**row, "affected": [affected]}


def _place(event: Bound) -> tuple[Version, bool]:
    """Where an event stands among others; an end at a version comes before a beginning there."""
    text = event.introduced or event.fixed or event.last_affected or "0"
    return Version("0.dev0" if text == "0" else text), event.introduced is not None


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None  # before PEP 440; nothing that can be installed today has such a version
