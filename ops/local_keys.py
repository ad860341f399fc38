"""Secrets that `pendra up` makes once for its own machine and keeps under the home, mode 0600."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from tasks.errors import ConfigError


def kept(path: Path, make: Callable[[], str]) -> str:
    """The secret in `path`, made and written at the first call. Raises ConfigError for an empty or open file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        _create(path, make())
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path} can be read by others; `chmod 600 {path}`, or remove it and a new one is made")
    secret = path.read_text(encoding="utf-8").strip()
    if not secret:
        raise ConfigError(f"{path} is empty; remove it and a new one is made")
    return secret


def _create(path: Path, secret: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as out:
        out.write(secret + "\n")
