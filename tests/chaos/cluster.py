"""A fleet of real processes that a test can break: Redis, API, two bridges (one waits), workers that can count.

The harness is the supervisor: what is killed comes back when the test says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from bridge.identity import Identity, generate_seed
from ops.controlplane import ensure_api_key, register_worker
from tasks import keys
from tasks.contract import Overview, WorkerInfo
from tasks.redis_client import connect
from tasks.sealing import FleetKey
from tests.acceptance.stack import free_port
from tests.chaos.wire import Wire
from tests.fakes.counting_llama import write_counting_llama
from tests.fakes.redis_server import RedisServer
from tests.fakes.tiny_bert import write_tiny_bert

ROOT = Path(__file__).resolve().parents[2]
MODEL = "count"
HOST = "chaos"
START_S = 60.0
_OURS = ("PENDRA_", "GPU_WORKER_", "APP_SERVER_", "WORKER_", "MODELS", "MAX_CONCURRENT")


async def eventually(look: Callable[[], Any], timeout_s: float = START_S, what: str = "") -> Any:
    """The first truthy value of `look`. Raises AssertionError when time runs out."""
    deadline = time.monotonic() + timeout_s
    while not (value := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'still'} {value!r} after {timeout_s} s")
        await asyncio.sleep(0.02)
    return value


@dataclass
class Part:
    """One process under a name of its own, its log beside it."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    home: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def log(self) -> Path:
        return self.home / f"{self.name}.log"

    @property
    def clock(self) -> Path:
        return self.home / f"{self.name}.clock"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        self.starts += 1
        with (self.home / f"{self.name}.out").open("ab") as out:
            self.process = subprocess.Popen(
                (sys.executable, "-m", "tests.chaos.skewed", *self.argv),
                cwd=ROOT,
                env=self.env | {"PENDRA_LOG_FILE": str(self.log), "CHAOS_CLOCK": str(self.clock)},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and reap."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def end(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def says(self, words: str) -> int:
        """How many lines of its log hold these words."""
        return sum(words in line for line in self.log.read_text().splitlines()) if self.log.exists() else 0

    def events(self, action: str) -> Iterator[dict[str, Any]]:
        """Its log's events of this name, where it logs as JSON. A line that a kill cut short is left out."""
        for path in sorted(self.home.glob(f"{self.log.name}*")):
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    row = json.loads(line[max(0, line.rfind('{"ts"')) :])  # the next process goes on in that line
                    if row["action"] == action:
                        yield row


@dataclass
class Cluster:
    """Started by `a_cluster`."""

    home: Path
    redis: RedisServer
    wire: Wire
    url: str
    key: str
    api: Part
    bridges: list[Part]
    workers: list[Part]
    slots: int
    client: redis.Redis = field(repr=False)

    @property
    def parts(self) -> list[Part]:
        return [*self.workers, *self.bridges, self.api]

    def live(self) -> dict[str, WorkerInfo]:
        """The workers whose leases live, by id."""
        rows = (WorkerInfo.model_validate_json(row) for row in self.client.hvals(keys.WORKERS))
        return {info.worker_id: info for info in rows if self.client.exists(keys.worker_lease(info.worker_id))}

    def serving(self) -> bool:
        """Everybody is there, with the model in memory, and a bridge is connected."""
        try:
            live = self.live()
            health = httpx.get(f"{self.url}/healthz", timeout=5).json()
        except (redis.RedisError, httpx.HTTPError):
            return False
        loaded = [info for info in live.values() if any(model.loaded for model in info.models)]
        return len(loaded) == len(self.workers) and health["workers"] == len(self.workers)

    def whole(self) -> bool:
        """Serving, and the bridge has told Redis of everything it has open (again, after Redis lost its data)."""
        try:
            told, noted = self.overview(), self.client.hlen(keys.open_jobs(HOST))
        except redis.RedisError:
            return False
        return told is not None and noted >= 0.8 * told.total and self.serving()

    def revive(self) -> list[str]:
        """Start what has ended by itself, as a supervisor does. A bridge may end when another one has its jobs."""
        ended = [part for part in self.parts if not part.alive]
        for part in ended:
            part.start()
        return [f"{part.name} ended by itself" for part in ended if part not in self.bridges]

    def check(self) -> None:
        """Raises AssertionError when a process has ended that nobody has killed."""
        for part in self.parts:
            if part.process is not None and not part.alive:
                raise AssertionError(f"{part.name} has ended: {(self.home / f'{part.name}.out').read_text()[-2000:]}")

    def listening(self) -> bool:
        """The API knows of every worker, whatever they have in memory."""
        with contextlib.suppress(httpx.HTTPError):
            return bool(httpx.get(f"{self.url}/healthz", timeout=5).json()["workers"] == len(self.workers))
        return False

    def overview(self) -> Overview | None:
        """What the bridge says it has open; None while there is none."""
        text = self.client.get(keys.overview(HOST))
        return Overview.model_validate_json(text) if text else None

    def owner(self) -> Part:
        """The bridge that has the link, so the one that owns the jobs; any that lives while the link is down."""
        alive = [part for part in self.bridges if part.alive]
        return next((part for part in alive if self._linked(part)), alive[0])

    def _linked(self, part: Part) -> bool:
        with contextlib.suppress(psutil.Error):
            connections = psutil.Process(part.pid).net_connections("tcp")
            return any(one.raddr and one.raddr.port == self.wire.port for one in connections)
        return False

    def idle(self) -> bool:
        """No slot is in use and no job is open, as far as anybody says."""
        live, told = self.live(), self.overview()
        held = sum(self.client.scard(keys.credits_of(worker_id)) for worker_id in live)
        return told is not None and told.total == 0 and held == 0 and not any(i.slots_busy for i in live.values())

    def leaks(self) -> list[str]:
        """Keys in Redis that nothing alive accounts for."""
        live = {keys.worker_lease(worker_id) for worker_id in self.live()}
        ours = {keys.replay(HOST), keys.bridge_lease(HOST), keys.bridge_epoch(HOST), keys.overview(HOST)}
        fine = live | ours | {keys.WORKERS}
        left = {key.decode() for key in self.client.scan_iter("*")} - fine
        return sorted(key for key in left if not key.startswith("_kombu.binding"))  # Celery's names of its queues


def _store(home: Path) -> Path:
    store = home / "models"
    store.mkdir()
    write_counting_llama(store / "count.gguf")
    write_tiny_bert(store / "bert.gguf")
    (store / "count.gguf.meta.json").write_text('{"id": "count", "purpose": "chat", "licence": "CC0-1.0"}')
    return store


def _parts(home: Path, wire: Wire, redis_url: str, port: int, workers: int, slots: int, env: dict[str, str]) -> Any:
    seed = generate_seed()
    register_worker(home, Identity.from_base64(seed).public_key, HOST)
    base = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    base |= {
        "PENDRA_HOME": str(home),
        "PENDRA_MODELS_DIR": str(home / "models"),
        "PENDRA_REDIS_URL": redis_url,
        "PENDRA_FLEET_KEY": FleetKey.generate().to_base64(),
        "WORKER_ID": HOST,
        **env,
    }
    api = Part("api", ("ops.cli", "controlplane", "--port", str(port), "--home", str(home)), base, home)
    dial = base | {
        "APP_SERVER_WS_URL": f"ws://127.0.0.1:{wire.port}",
        "GPU_WORKER_PRIVATE_KEY": seed,
        "PENDRA_LOG_FORMAT": "json",
    }
    bridges = [Part(f"bridge{n}", ("bridge.main",), dial, home) for n in range(2)]
    serve = base | {"MAX_CONCURRENT": str(slots), "PENDRA_THREADS": "1", "PENDRA_CONTEXT_LENGTH": "512"}
    made = [
        Part(f"worker{n}", ("tests.chaos.paced_worker",), serve | {"PENDRA_CHILD_ID": f"{HOST}-w{n}"}, home)
        for n in range(workers)
    ]
    return api, bridges, made


@contextlib.asynccontextmanager
async def a_cluster(
    home: Path, *, workers: int = 3, slots: int = 32, preload: bool = True, **env: str
) -> AsyncIterator[Cluster]:
    """Everything up and serving (without `preload`: no model in memory yet). `env`: for all processes."""
    _store(home)
    env |= {"PENDRA_PRELOAD": MODEL} if preload else {}
    port = free_port()
    wire = Wire(("127.0.0.1", port))
    await wire.start()
    with RedisServer(home) as server:
        api, bridges, made = _parts(home, wire, server.url, port, workers, slots, env)
        url = f"http://127.0.0.1:{port}"
        with contextlib.closing(connect(server.url)) as client:
            cluster = Cluster(home, server, wire, url, ensure_api_key(home), api, bridges, made, slots, client)
            try:
                for part in [api, *made, bridges[0]]:
                    part.start()
                ready = cluster.serving if preload else cluster.listening
                await eventually(lambda: cluster.check() or ready(), what="the fleet is not serving:")
                bridges[1].start()
                await eventually(
                    lambda: cluster.check() or bridges[1].says("bridge.standby"), what="no second bridge:"
                )
                yield cluster
            finally:
                for part in cluster.parts:
                    await asyncio.to_thread(part.end)
                await wire.stop()
