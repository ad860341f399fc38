"""Foreign packages named like ours: `tasks` and `worker` are common names, and the first on sys.path wins."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import tasks
from ops.doctor.verdict import Verdict, failed, ok, warning

CHECK = "packages"
OURS = ("bridge", "tasks", "worker", "ops")


def look() -> list[Verdict]:
    root = Path(tasks.__file__).resolve().parent.parent
    return judge(found_on([entry or "." for entry in sys.path]), root)


def found_on(entries: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Where on the path each of our names is a package or a module, in order."""
    out: dict[str, tuple[Path, ...]] = {}
    for name in OURS:
        places = (place for entry in entries for place in (Path(entry, name), Path(entry, f"{name}.py")))
        good = (p.resolve() for p in places if (p / "__init__.py").is_file() or (p.suffix == ".py" and p.is_file()))
        out[name] = tuple(dict.fromkeys(good))
    return out


def judge(found: dict[str, tuple[Path, ...]], root: Path) -> list[Verdict]:
    """`root`: the folder that ours are in."""
    out = []
    for name, places in found.items():
        foreign = [place for place in places if place.parent != root]
        if places and foreign and places[0] == foreign[0]:
            fix = f"move {foreign[0]} off sys.path (PYTHONPATH, the current folder), or use an environment of our own"
            out.append(failed(CHECK, f"`{name}` is imported from {foreign[0]}, not from {root}", fix))
        elif foreign:
            fix = "use an environment of our own; another start folder or PYTHONPATH would import the wrong one"
            out.append(warning(CHECK, f"another `{name}` lies behind ours, at {foreign[0]}", fix))
    return out or [ok(CHECK, f"{', '.join(OURS)} are ours, from {root}")]
