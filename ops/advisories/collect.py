"""From a clone of a public advisory database to the few records about our packages, in one small file.

Read are the databases of PyPA (https://github.com/pypa/advisory-database, YAML in `vulns/<package>/`) and GitHub
(https://github.com/github/advisory-database, JSON), and any folder of OSV's JSON. Both are CC BY 4.0; the file says
where it comes from. It stays in `.cache`: a day later it is older than what anybody can clone.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import yaml
from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict, ValidationError

from ops.advisories.records import PYPI, Advisory
from tasks.errors import ConfigError

CACHE = Path(".cache/advisories")


class Collected(BaseModel):
    """Records of one database. `date` is that of its newest commit, `licence` the first line of its licence."""

    model_config = ConfigDict(frozen=True)

    source: str
    commit: str
    date: str
    licence: str
    advisories: tuple[Advisory, ...]


def our_packages() -> frozenset[str]:
    """The canonical names of all that is installed beside this interpreter."""
    return frozenset(canonicalize_name(each.metadata["Name"]) for each in distributions())


def collect(clone: Path, packages: frozenset[str]) -> Collected:
    """The records of `clone` about `packages`. Blocking: reads its files. Raises ConfigError when it holds none."""
    found = tuple(each for each in _records(clone, packages) if each.packages() & packages)
    if not found:
        raise ConfigError(f"{clone} holds no advisory about {len(packages)} packages; give a clone of a database")
    return Collected(
        source=_git(clone, "remote", "get-url", "origin") or clone.name,
        commit=_git(clone, "rev-parse", "HEAD"),
        date=_git(clone, "log", "-1", "--format=%cI"),
        licence=_licence(clone),
        advisories=found,
    )


def write(collected: Collected, folder: Path = CACHE) -> Path:
    """One file a database: a newer copy replaces the older one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{re.sub(r'[^a-z0-9]+', '-', collected.source.lower().removesuffix('.git')).strip('-')}.json"
    path.write_text(collected.model_dump_json(exclude_none=True, indent=1))
    return path


def read(folder: Path = CACHE) -> list[Collected]:
    """What was collected here. Raises ConfigError for a file that is something else."""
    try:
        return [Collected.model_validate_json(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    except ValidationError as exc:
        raise ConfigError(f"{folder} holds a file that is no collection of advisories; remove it ({exc})") from None


def _records(clone: Path, packages: frozenset[str]) -> Iterator[Advisory]:
    for path in sorted(clone.rglob("*.yaml")):
        if canonicalize_name(path.parent.name) in packages:
            # BaseLoader: a version is text, also one that looks like a number or a date
            yield _advisory(path, yaml.load(path.read_bytes(), Loader=yaml.BaseLoader))  # noqa: S506
    for path in sorted(clone.rglob("*.json")):
        text = path.read_bytes()
        if f'"{PYPI}"'.encode() in text:
            yield _advisory(path, json.loads(text))


def _advisory(path: Path, raw: object) -> Advisory:
    try:
        return Advisory.model_validate(raw)
    except ValidationError as exc:
        raise ConfigError(f"{path} is no advisory in OSV's form: {exc}") from None


def _git(clone: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(clone), *args], capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.strip() if done.returncode == 0 else ""


def _licence(clone: Path) -> str:
    for path in sorted(clone.glob("LICENSE*")):
        return next((line.strip() for line in path.read_text().splitlines() if line.strip()), "")
    return ""
