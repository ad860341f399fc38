"""A lock on a file that the kernel drops when its holder dies, so that a crash never leaves anything locked."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.05


@contextmanager
def held(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold `path` (made when missing, never removed: that would let two holders lock two files). Blocking.

    Raises TimeoutError when another holder keeps it for `timeout_s`. Not reentrant: a second `held` of the same path
    in this process waits like any other.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        _wait(fd, path, time.monotonic() + timeout_s)
        yield
    finally:
        os.close(fd)


def _wait(fd: int, path: Path, deadline: float) -> None:
    while not _try(fd):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{path} is held by another process")
        time.sleep(_POLL_S)


if sys.platform == "win32":
    import msvcrt

    def _try(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
