"""A second host joins with a token, serves, and leaves: two homes, two stores, two process groups, one Redis."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from ops.join.token import PREFIX
from ops.node_state import live_workers
from tasks.redis_client import connect
from tests.acceptance.flower import Flower, flower_of
from tests.acceptance.stack import MODEL, Stack, eventually, free_port, running
from tests.fakes.waiting import PATIENCE_S


@dataclass
class Host:
    """The second host: a home and a store of its own."""

    home: Path
    models_dir: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def env(self) -> dict[str, str]:
        return Stack(self.home, self.models_dir).env()

    def cli(self, *args: str) -> subprocess.CompletedProcess[str]:
        return Stack(self.home, self.models_dir).cli(*args)

    def start(self) -> None:
        argv = [sys.executable, "-m", "ops.cli", "worker", "--slots", "2", "--model", MODEL]
        with (self.home / "worker.out").open("ab") as out:
            self.process = subprocess.Popen(
                argv, env=self.env(), stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def end(self, signum: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signum)
            self.process.wait(60)


@dataclass
class Service:
    """`pendra fleet token` of the first host, in the foreground of nobody."""

    process: subprocess.Popen[str]
    token: str

    @classmethod
    def start(cls, stack: Stack) -> Service:
        argv = [sys.executable, "-m", "ops.cli", "fleet", "token", "--address", "127.0.0.1", "--listen", "127.0.0.1"]
        argv += ["--port", str(free_port()), "--redis-url", redis_of(stack)]
        process = subprocess.Popen(
            argv, env=stack.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        return cls(process, process.stdout.readline().strip())

    def end(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


def redis_of(stack: Stack) -> str:
    """Its whole URL: `pendra status` masks passwords, and a socket's has none."""
    return stack.status_url()


@pytest.fixture(scope="module")
def first(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(Stack(tmp_path_factory.mktemp("first"), models_dir, args=("--workers", "1", "--slots", "2"))) as up:
        yield up


@pytest.fixture(scope="module")
def second(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    store = tmp_path_factory.mktemp("second-models")
    shutil.copytree(models_dir, store, symlinks=True, dirs_exist_ok=True)
    host = Host(tmp_path_factory.mktemp("second"), store)
    yield host
    if host.process is not None and host.process.poll() is None:
        os.killpg(host.process.pid, signal.SIGKILL)
        host.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def flower(first: Stack) -> Iterator[Flower]:
    with flower_of(first) as found:
        yield found


def ask(stack: Stack, key: str, pin: str | None = None) -> httpx.Response:
    return httpx.post(
        f"{stack.url}/v1/chat/completions",
        headers={"x-api-key": key} | ({"x-pendra-worker-id": pin} if pin else {}),
        json={"model": MODEL, "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4},
        timeout=120,
    )


def workers_of(stack: Stack, node: str) -> set[str]:
    """The node's GPU or CPU workers, as the control plane tells its models' workers."""
    rows = httpx.get(f"{stack.url}/api/v1/models", headers={"x-api-key": stack.key}, timeout=PATIENCE_S).json()[
        "data"
    ]
    return {worker for row in rows for worker in row["workers"] if worker.startswith(node)}


def test_a_host_joins_serves_and_leaves(first: Stack, second: Host, flower: Flower) -> None:
    service = Service.start(first)
    assert service.token.startswith(PREFIX)
    joined = second.cli("join", service.token, "--label", "phi")
    assert joined.returncode == 0, joined.stderr
    assert service.token not in joined.stdout + joined.stderr
    code, said = service.end()
    assert code == 0
    assert "has the keys" in said
    assert all(path.stat().st_mode & 0o077 == 0 for path in second.home.iterdir() if path.is_file())
    assert (second.home / "fleet-key").read_text() == (first.home / "fleet-key").read_text()
    assert (second.home / "workload-key").read_text() == (first.home / "workload-key").read_text()

    node = re.search(r"wrk-[0-9a-z-]+|worker_id: (\S+)", (second.home / "config.yaml").read_text())
    assert node is not None
    name = (node[1] or node[0]).strip("'\"")
    second.start()
    mine = f"{name}-cpu0"
    assert eventually(lambda: workers_of(first, name), 60, 0.2) == {mine}
    assert eventually(lambda: mine in first.cli("status").stdout)
    assert eventually(lambda: flower.workers().get(f"chat@{mine}"))
    assert eventually(lambda: flower.workers().get(f"install@{name}"))
    assert eventually(lambda: flower.online()[f"chat@{mine}"])
    assert flower.inspected(f"chat@{mine}")["stats"]["pool"]["max-concurrency"] == 2
    assert f"worker.{mine}" in flower.page(f"chat@{mine}")  # its queue
    assert ask(first, first.key, pin=mine).status_code == 200  # a pin serves there or not at all
    clinic = first.cli("keys", "create", "clinic", "--only-on", "phi").stdout.strip()
    assert ask(first, clinic).status_code == 200
    elsewhere = ask(first, clinic, pin=next(iter(workers_of(first, "") - {mine})))
    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (503, "no_labelled_worker")

    with connect(redis_of(first)) as client:
        assert live_workers(client)[mine].labels == ("phi",)
        dump = b"".join(bytes(key) + repr(client.dump(key)).encode() for key in client.scan_iter())  # type: ignore[arg-type]  # redis-py's types
        for secret in ("fleet-key", "workload-key"):
            assert (first.home / secret).read_text().strip().encode() not in dump
    second.end(signal.SIGINT)
    assert eventually(lambda: not workers_of(first, name))
    assert eventually(lambda: flower.workers()[f"chat@{mine}"] is False)
    assert eventually(lambda: flower.online()[f"chat@{mine}"] is False)
    others = [who for who in flower.workers() if name not in who]
    assert len(others) == 2
    assert eventually(lambda: all(flower.workers()[who] for who in others)), "the first host stays"
    spilled = ask(first, clinic)
    assert (spilled.status_code, spilled.json()["error"]["code"]) == (503, "no_labelled_worker")
    assert ask(first, first.key).status_code == 200, "the first host serves, but carries no label"


def test_a_host_that_dies_leaves_with_its_lease(first: Stack, second: Host, flower: Flower) -> None:
    second.start()
    assert second.process is not None
    name = json.loads(second.cli("status", "--json").stdout)["node"]
    assert eventually(lambda: workers_of(first, name), 60, 0.2)
    assert eventually(lambda: flower.workers()[f"chat@{name}-cpu0"]), "one that came back is online again"
    os.killpg(second.process.pid, signal.SIGKILL)  # its children die with it
    second.process.wait(PATIENCE_S)
    assert eventually(lambda: not workers_of(first, name))
    assert eventually(lambda: flower.workers()[f"chat@{name}-cpu0"] is False)


def test_a_used_token_is_void(first: Stack, tmp_path: Path) -> None:
    service = Service.start(first)
    for home, code in (("one", 0), ("two", 1)):
        (tmp_path / home).mkdir()
        done = Host(tmp_path / home, tmp_path / home).cli("join", service.token)
        assert done.returncode == code, done.stderr
    assert "[join_token_used]" in done.stderr or "[join_unreachable]" in done.stderr
    assert "pendra fleet token" in done.stderr or "make a new token" in done.stderr
    assert not (tmp_path / "two" / "fleet-key").exists()
    assert service.end()[0] == 0


def test_half_a_token_changes_nothing(tmp_path: Path) -> None:
    done = Host(tmp_path, tmp_path).cli("join", PREFIX + "abcdefg")
    assert done.returncode == 1
    assert "[join_token_invalid]" in done.stderr
    assert not (tmp_path / "fleet-key").exists()
