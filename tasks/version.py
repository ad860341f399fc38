"""The version of this installation."""

from __future__ import annotations

from functools import cache
from importlib import metadata

DISTRIBUTION = "pendra-worker"


@cache
def version() -> str:
    """`0+source` where nothing is installed. Reads the metadata once a process: it cannot change while it runs."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0+source"
