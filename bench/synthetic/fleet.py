"""The processes of a measurement: one Redis, one bridge, as many synthetic workers as asked for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import redis

from bench.synthetic.api_end import ApiEnd
from bench.synthetic.machine import Cpu, used
from bench.synthetic.worker import MODEL, RATE
from bridge.identity import generate_seed
from ops import embedded_redis
from tasks.sealing import FleetKey

ROOT = Path(__file__).resolve().parents[2]
READY_S = 120.0
MANY = "1000000"
_TAIL = 60  # lines


class Fleet:
    """Use `running`. Nothing is shared with a fleet of the user's: own Redis, own keys, own home."""

    def __init__(self, home: Path, *, rate: float, threads: int) -> None:
        self._home = home
        self._rate = rate
        self.threads = threads
        self.api = ApiEnd()
        self._redis = embedded_redis.prepare(home)
        self._fleet_key, self._seed = FleetKey.generate().to_base64(), generate_seed()
        self._processes: dict[str, list[subprocess.Popen[bytes]]] = {"redis": [], "bridge": [], "workers": []}

    @property
    def bridge_pid(self) -> int:
        return self._processes["bridge"][0].pid

    @property
    def workers(self) -> int:
        return len(self._processes["workers"])

    def cpu(self) -> Cpu:
        """Of each part so far; the load generator is this process."""
        parts = {name: [process.pid for process in started] for name, started in self._processes.items()}
        return used(parts | {"load generator": [os.getpid()]})

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        self._spawn("redis", list(self._redis.argv))
        await _until(lambda: embedded_redis.answers(self._redis.url), "Redis")
        self._spawn("bridge", [sys.executable, "-m", "bridge.main"])
        await _until(lambda: self.api.links, "the bridge")

    async def grow(self, workers: int) -> None:
        """Until there are this many workers, all known to the API."""
        for number in range(self.workers, workers):
            self._spawn("workers", [sys.executable, "-m", "bench.synthetic.worker"], number)
        await _until(lambda: self.api.slots >= workers * self.threads, f"{workers} workers")
        await _until(self._all_consume, "the workers' consumers")

    def stop(self) -> None:
        for name in ("workers", "bridge", "redis"):
            for process in self._processes[name]:
                process.terminate()
        for process in [one for started in self._processes.values() for one in started]:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def check(self) -> None:
        """Raises RuntimeError when one of the processes has ended."""
        for name, started in self._processes.items():
            for number, process in enumerate(started):
                if process.poll() is not None:
                    raise RuntimeError(
                        f"{name}{number} ended with {process.returncode}; its log ends:\n{self._tail(name, number)}"
                    )

    def _tail(self, name: str, number: int) -> str:
        """The home is gone when somebody reads the error."""
        lines = (self._home / f"{name}{number}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL:])

    def _all_consume(self) -> bool:
        """Whether every worker waits on the model's queue (its heartbeat may be ahead of that)."""
        with contextlib.closing(redis.Redis.from_url(self._redis.url)) as client:
            asleep = [one for one in client.client_list() if one["cmd"] == "brpop"]
        return len(asleep) >= self.workers

    def _spawn(self, name: str, argv: list[str], number: int = 0) -> None:
        log = self._home / f"{name}{number}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                argv, cwd=ROOT, env=self._env(name, number), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self._processes[name].append(process)

    def _env(self, name: str, number: int) -> dict[str, str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("PENDRA_")}
        env = {
            "PENDRA_HOME": str(self._home),
            "PENDRA_REDIS_URL": self._redis.url,
            "PENDRA_FLEET_KEY": self._fleet_key,
            "PENDRA_LOG_LEVEL": "WARNING",
            "WORKER_ID": "wrk-bench",
        }
        if name == "bridge":
            limits = ("PENDRA_MAX_WAITING", "PENDRA_MAX_WAITING_MODEL", "PENDRA_MAX_WAITING_KEY")
            env |= dict.fromkeys(limits, MANY)
            env |= {"APP_SERVER_WS_URL": self.api.url, "GPU_WORKER_PRIVATE_KEY": self._seed}
        else:
            env |= {"PENDRA_CHILD_ID": f"wrk-bench-{number}", "MAX_CONCURRENT": str(self.threads)}
            env |= {"PENDRA_PRELOAD": MODEL, RATE: str(self._rate)}
        return ours | env


@contextlib.asynccontextmanager
async def running(home: Path, *, workers: int, rate: float = 20.0, threads: int = 64) -> AsyncIterator[Fleet]:
    """A fleet of `workers` processes with `threads` slots each, whose engines make `rate` steps a second."""
    fleet = Fleet(home, rate=rate, threads=threads)
    async with fleet.api:
        try:
            await fleet.start()
            await fleet.grow(workers)
            yield fleet
            fleet.check()
        finally:
            await asyncio.to_thread(fleet.stop)


async def _until(probe: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + READY_S
    while not await asyncio.to_thread(probe):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not become ready within {READY_S:.0f} s")
        await asyncio.sleep(0.05)
