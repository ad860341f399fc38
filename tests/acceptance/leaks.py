"""The places where a prompt might lie in the clear: each look returns what it saw as (place, bytes)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import redis

from tasks.redis_client import connect
from tests.acceptance.stack import Stack, eventually, free_port
from tests.fakes.waiting import PATIENCE_S

Evidence = list[tuple[str, bytes]]
LOGIN = ("ops", "hush")


class Monitor:
    """Everything that is said to Redis, pub/sub and scripts included, as MONITOR shows it."""

    def __init__(self, url: str) -> None:
        self.seen = bytearray()
        self._wire = socket.socket(socket.AF_UNIX)
        self._wire.connect(url.removeprefix("unix://").partition("?")[0])
        self._wire.sendall(b"MONITOR\r\n")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert eventually(lambda: self.seen.startswith(b"+OK"))

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self._wire.recv(1 << 16):
                self.seen.extend(piece)

    def stop(self) -> bytes:
        with contextlib.suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)
        self._reader.join(10)
        self._wire.close()
        return bytes(self.seen)


def dumped(url: str) -> Evidence:
    """Every key and its DUMP."""
    with closing(connect(url)) as client:
        client.config_set("rdbcompression", "no")  # else a text might hide in a compressed one
        rows = [(key, client.dump(key)) for key in client.scan_iter()]
        return [(f"Redis key {key!r}", key + (data or b"")) for key, data in rows]


def plant_in_redis(url: str, word: str) -> None:
    with closing(connect(url)) as client:
        client.rpush("canary", word * 8)
        client.publish("canary", word)


def files(*folders: Path, but: Iterable[Path] = ()) -> Evidence:
    """Everything in these folders that can be read, SQLite files with their WAL among it."""
    apart = set(but)
    paths = [path for folder in folders for path in folder.rglob("*")]
    plain = [path for path in paths if path.is_file() and not path.is_symlink() and path not in apart]
    return [(str(path), path.read_bytes()) for path in plain]


def processes(root: int) -> Evidence:
    """Command line and environment of this process and all below it."""
    tree = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    return [row for process in tree for row in process_listing(process.pid)]


def process_listing(pid: int) -> Evidence:
    with contextlib.suppress(OSError):
        return [(f"/proc/{pid}/{name}", Path(f"/proc/{pid}/{name}").read_bytes()) for name in ("cmdline", "environ")]
    return []  # it has ended


def dump_settings(root: int) -> dict[str, tuple[str, int]]:
    """Of every process: the size limit of a core dump, and which memory it would hold."""
    told = {}
    for process in [psutil.Process(root), *psutil.Process(root).children(recursive=True)]:
        with contextlib.suppress(OSError, psutil.Error):
            place = Path(f"/proc/{process.pid}")
            limits = (place / "limits").read_text().splitlines()
            size = next(line.split()[4] for line in limits if line.startswith("Max core file size"))
            told[" ".join(process.cmdline())[:120]] = (size, int((place / "coredump_filter").read_text(), 16))
    return told


def in_memory(pid: int, words: Iterable[bytes]) -> set[bytes]:
    """Which words are anywhere in the writable memory of the process."""
    wanted, seen = set(words), set()
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory, Path(f"/proc/{pid}/maps").open() as maps:
        for line in maps:
            place, mode = line.split()[:2]
            if "rw" not in mode:
                continue
            start, end = (int(side, 16) for side in place.split("-"))
            with contextlib.suppress(OSError, ValueError, OverflowError):
                memory.seek(start)
                held = memory.read(end - start)
                seen |= {word for word in wanted - seen if word in held}
    return seen


def celery_sees(url: str) -> Evidence:
    """What `celery inspect` tells of the work under way."""
    argv = [sys.executable, "-m", "celery", "-A", "tasks", "--quiet", "inspect", "--json", "--timeout", "3"]
    env = {**os.environ, "PENDRA_REDIS_URL": url}
    said = [
        subprocess.run([*argv, what], env=env, capture_output=True, timeout=60, check=False).stdout
        for what in ("active", "reserved")
    ]
    ids = [task["id"] for rows in json.loads(said[0] or b"{}").values() for task in rows]
    query = [*argv, "query_task", *ids]
    said += [subprocess.run(query, env=env, capture_output=True, timeout=60, check=False).stdout] if ids else []
    return [(f"celery inspect {number}", text) for number, text in enumerate(said)]


_TABLE = "draw=1&start=0&length=100&search[value]=&order[0][column]=0&order[0][dir]=asc&columns[0][data]=name"
PAGES = (
    "/", "/workers", "/tasks", f"/tasks/datatable?{_TABLE}", "/broker", "/metrics",
    "/api/workers?refresh=true", "/api/tasks", "/api/task/types", "/api/queues/length",
)  # fmt: skip


@contextmanager
def flower(stack: Stack) -> Iterator[httpx.Client]:
    """A Flower of our own on the stack's Redis."""
    port = free_port()
    argv = [sys.executable, "-m", "ops.cli", "flower", "--port", str(port), "--logging=warning"]
    env = stack.env() | {"FLOWER_BASIC_AUTH": ":".join(LOGIN), "PENDRA_REDIS_URL": stack.status_url()}
    with (stack.home / "logs" / "flower.log").open("wb") as log:
        process = subprocess.Popen(argv, env=env, stdout=log, stderr=log)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=LOGIN, timeout=PATIENCE_S, trust_env=False)
    try:
        with client:
            assert eventually(lambda: _workers(client), 60, 0.2), "Flower sees no worker"
            yield client
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _workers(client: httpx.Client) -> object:
    with contextlib.suppress(httpx.HTTPError, ValueError):
        return client.get("/api/workers").json()
    return None


def flower_shows(client: httpx.Client) -> Evidence:
    """Its pages, its API, and the page of every task it has heard of."""
    tasks = list(client.get("/api/tasks").json())
    workers = list(client.get("/api/workers").json())
    more = [f"{place}/{one}" for one in tasks for place in ("/task", "/api/task/info", "/api/task/result")]
    pages = [*PAGES, *more, *(f"/worker/{name}" for name in workers)]
    return [(f"Flower {page}", client.get(page).content) for page in pages]


def ask_through_flower(client: httpx.Client, queue: str, word: str) -> None:
    """Install tasks show their arguments, unlike inference."""
    body = {"args": [word], "queue": queue}
    reply = client.post("/api/task/async-apply/tasks.uninstall_model", json=body)
    assert reply.status_code == 200, reply.text
    name = reply.json()["task-id"]
    assert eventually(lambda: client.get(f"/api/task/info/{name}").status_code == 200)


def is_redis_back(url: str) -> bool:
    try:
        with closing(connect(url)) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
