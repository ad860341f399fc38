"""Runs `pendra up` as a user would: a real process, the real model, the official clients from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from ops.node_state import live_workers
from tasks.redis_client import connect
from tests.fakes.waiting import PATIENCE_S

START_TIMEOUT_S = 120.0
MODEL = "smollm2:135m"
ENDPOINTS = ("OLLAMA_ENDPOINT", "VLLM_ENDPOINT", "LMSTUDIO_ENDPOINT", "SPEACHES_ENDPOINT")
T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(look: Callable[[], T], timeout: float = PATIENCE_S, every: float = 0.05) -> T:
    """The first truthy result of `look`; the last result when time runs out."""
    deadline = time.monotonic() + timeout
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(every)
    return found


def _argv(*args: str) -> list[str]:
    """The `pendra` command, with this interpreter."""
    return [sys.executable, "-m", "ops.cli", *args]


@dataclass
class Stack:
    """A running `pendra up`."""

    home: Path
    models_dir: Path
    port: int = field(default_factory=free_port)
    args: tuple[str, ...] = ()
    keep_env: tuple[str, ...] = ()
    model: str | None = MODEL
    backends: dict[str, str] = field(default_factory=dict)  # endpoints; those not named are off
    process: subprocess.Popen[str] | None = None
    _redis_url: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.home / "api-key").read_text().strip()

    @property
    def log(self) -> Path:
        return self.home / "up.out"

    def env(self) -> dict[str, str]:
        ours = ("PENDRA_", "GPU_WORKER_", "APP_SERVER_")
        inherited = {k: v for k, v in os.environ.items() if k in self.keep_env or not k.startswith(ours)}
        own = {"PENDRA_HOME": str(self.home), "PENDRA_MODELS_DIR": str(self.models_dir)}
        return inherited | dict.fromkeys(ENDPOINTS, "off") | own | self.backends

    def cli(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(_argv(*args), env=self.env(), capture_output=True, text=True, timeout=60, check=False)

    def cli_started(self, *args: str) -> subprocess.Popen[str]:
        """Like `cli`, under way; what it says is in pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(_argv(*args), env=self.env(), stdout=pipe, stderr=pipe, text=True)

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        argv = _argv("up", "--port", str(self.port), *self.args)
        argv += ["--model", self.model] if self.model else []
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                argv, env=self.env(), stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
            )
        if self.model:
            self.await_ready()

    def await_ready(self, workers: int = 1) -> None:
        def ready() -> bool:
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(f"pendra up ended early:\n{self.log.read_text()}")
            with contextlib.suppress(httpx.HTTPError):
                health = httpx.get(f"{self.url}/healthz", timeout=2).json()
                return bool(health["status"] == "ready" and health["workers"] >= workers)
            return False

        assert eventually(ready, START_TIMEOUT_S, 0.2), f"not ready in time:\n{self.log.read_text()}"

    def status(self) -> dict[str, Any]:
        done = self.cli("status", "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def processes(self, role: str) -> list[dict[str, Any]]:
        return [p for p in self.status()["processes"] if p["role"] == role]

    def slots_busy(self) -> int:
        """As the workers' heartbeats say now, without starting a command."""
        with contextlib.closing(connect(self.status_url())) as client:
            return sum(info.slots_busy for info in live_workers(client).values())

    def status_url(self) -> str:
        if self._redis_url is None:
            self._redis_url = str(self.status()["redis_url"])
        return self._redis_url

    def stop(self) -> int:
        """Ctrl-C, and the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextlib.contextmanager
def leaving(stack: Stack, path: str, body: dict[str, Any]) -> Iterator[http.client.HTTPConnection]:
    """A client that has asked, and is gone when the block ends, whatever has come by then."""
    headers = {"Authorization": f"Bearer {stack.key}", "Content-Type": "application/json"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)) as wire:
        wire.request("POST", path, json.dumps(body), headers)
        yield wire


@contextlib.contextmanager
def running(stack: Stack, workers: int = 1) -> Iterator[Stack]:
    stack.start()
    try:
        stack.await_ready(workers)
        yield stack
    finally:
        stack.stop()
