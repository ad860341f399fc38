"""The models folder: readable, writable, with room, and no broken file in it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ops.doctor.verdict import Verdict, failed, ok, warning
from tasks.settings import Settings
from worker.store.catalogue import Catalogue

CHECK, DISK = "models", "disk"
_GB = 1000**3
_LITTLE, _NONE = 20 * _GB, 2 * _GB


@dataclass(frozen=True, slots=True)
class Facts:
    """`broken`: (file, why) of models that cannot be served. `free`, `total`: bytes of the disk."""

    folder: Path
    exists: bool
    readable: bool
    writable: bool
    free: int
    total: int
    models: int = 0
    broken: tuple[tuple[str, str], ...] = ()


def look(settings: Settings) -> list[Verdict]:
    folder = settings.models_dir
    there = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(there)
    entries = Catalogue(folder, settings.models).entries()
    return judge(
        Facts(
            folder=folder,
            exists=folder.is_dir(),
            readable=os.access(there, os.R_OK | os.X_OK),
            writable=os.access(there, os.W_OK),
            free=usage.free,
            total=usage.total,
            models=sum(entry.problem is None for entry in entries),
            broken=tuple((entry.path.name, entry.problem.message) for entry in entries if entry.problem),
        )
    )


def judge(facts: Facts) -> list[Verdict]:
    return [*_folder(facts), *(_broken(name, why) for name, why in facts.broken), _disk(facts)]


def _folder(facts: Facts) -> list[Verdict]:
    fix = f"give {facts.folder} to the user who runs pendra (chown -R), or set PENDRA_MODELS_DIR"
    if not facts.readable:
        return [failed(CHECK, f"{facts.folder} cannot be read", fix)]
    out = [] if facts.writable else [warning(CHECK, f"{facts.folder} cannot be written: no installs", fix)]
    if not facts.models:
        found = f"{facts.folder} has no model to serve" if facts.exists else f"{facts.folder} is not there yet"
        return [*out, warning(CHECK, found, "pendra models install smollm2:135m")]
    return [*out, ok(CHECK, f"{facts.models} in {facts.folder}")]


def _broken(name: str, why: str) -> Verdict:
    return failed(CHECK, f"{name}: {why}", "install it again, or remove the file")


def _disk(facts: Facts) -> Verdict:
    found = f"{facts.free / _GB:.0f} of {facts.total / _GB:.0f} GB are free for models"
    fix = f"free some, or move {facts.folder} to a larger disk (PENDRA_MODELS_DIR)"
    if facts.free < _NONE:
        return failed(DISK, found, fix)
    return warning(DISK, found, fix) if facts.free < _LITTLE else ok(DISK, found)
