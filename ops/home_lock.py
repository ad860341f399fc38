"""One stack per home: a lock on `<home>/run/up.lock` that the kernel drops when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tasks.errors import PendraError

_PATIENCE_S = 0.5  # `pendra status` holds the lock for a moment when it looks


class AlreadyRunningError(PendraError):
    default_code = "already_running"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a home: its process id and the command (`pendra up`, `pendra worker`)."""

    pid: int
    command: str


class HomeLock:
    """Held within `with`. Entering raises AlreadyRunningError, which names the holder."""

    def __init__(self, home: Path, command: str) -> None:
        self._home = home
        self._command = command
        self._fd = -1

    def __enter__(self) -> Self:
        fd = _open(self._home)
        deadline = time.monotonic() + _PATIENCE_S
        while not _try(fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(fd)
                raise self._taken()
            time.sleep(0.02)
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "command": self._command}).encode(), 0)
        self._fd = fd
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._fd)  # the file stays: removing it would let two holders lock two files

    def _taken(self) -> AlreadyRunningError:
        who = holder(self._home)
        name = (
            f"{who.command} is already running (process {who.pid})" if who else "another pendra is already starting"
        )
        return AlreadyRunningError(f"{name} with home {self._home}; stop it first, or choose another --home")


def holder(home: Path) -> Holder | None:
    """Who runs with this home now, None = nobody."""
    if not _path(home).exists():
        return None
    fd = _open(home)
    try:
        if _try(fd, fcntl.LOCK_SH):
            return None
        row = json.loads(os.pread(fd, 4096, 0) or b"null")
        return Holder(row["pid"], row["command"]) if row else None
    except ValueError:
        return None  # between truncate and write
    finally:
        os.close(fd)


def _path(home: Path) -> Path:
    return home / "run" / "up.lock"


def _open(home: Path) -> int:
    path = _path(home)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
