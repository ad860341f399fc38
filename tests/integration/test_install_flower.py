"""Flower and `celery call`, as real processes: asking for an install, watching and stopping it over Flower's API."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.stack import free_port
from tests.fakes.waiting import PATIENCE_S, until
from tests.integration.install_host import NODE, ROOT, Host, tiny
from tests.worker.store.models import GGUF, SHA256, FileServer, serving
from worker.store import journal

pytestmark = pytest.mark.integration
LOGIN = ("ops", "hush")


@pytest.fixture(scope="module")
def place(redis_server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    home = tmp_path_factory.mktemp("flower")
    with Host(redis_server.url, home) as host:
        yield host


@pytest.fixture(scope="module")
def flower(place: Host) -> Iterator[httpx.Client]:
    port = free_port()
    argv = [sys.executable, "-m", "ops.cli", "flower", "--port", str(port), "--logging=warning"]
    env = place.env | {"FLOWER_BASIC_AUTH": ":".join(LOGIN)}
    with (place.home / "flower.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=log, stderr=log)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=LOGIN, timeout=PATIENCE_S, trust_env=False)
    try:
        with client:
            until(lambda: process.poll() is not None or answers(client), 30, 0.1)
            assert process.poll() is None, (place.home / "flower.log").read_text()
            until(lambda: f"install@{NODE}" in client.get("/api/workers").json(), 30, 0.2)
            yield client
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return client.get("/healthcheck").status_code == 200
    return False


def ask(flower: httpx.Client, **kwargs: Any) -> str:
    body = {"kwargs": kwargs, "queue": f"install.{NODE}"}
    reply = flower.post("/api/task/async-apply/tasks.install_model", json=body)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["task-id"])


def result(flower: httpx.Client, task_id: str) -> dict[str, Any]:
    return dict(flower.get(f"/api/task/result/{task_id}").json())


def info(flower: httpx.Client, task_id: str) -> dict[str, Any]:
    """What Flower's task page shows; empty until it has heard an event of the task."""
    reply = flower.get(f"/api/task/info/{task_id}")
    return dict(reply.json()) if reply.status_code == 200 else {}


def test_asked_and_watched_over_flower(flower: httpx.Client, place: Host):
    with serving(FileServer(drip=True)) as server:
        task_id = ask(flower, **tiny(server))
        until(lambda: result(flower, task_id)["state"] == "PROGRESS", every_s=0.05)
        until(lambda: "256.1 kB" in str(info(flower, task_id).get("result")), every_s=0.05)
        assert "downloading" in str(info(flower, task_id)["result"])
        assert info(flower, task_id)["state"] == "PROGRESS"
        server.drip = False
        until(lambda: result(flower, task_id)["state"] == "SUCCESS", every_s=0.05)
    said = json.dumps(result(flower, task_id)["result"])
    assert "tiny:1" in said
    assert NODE in said
    assert (place.store / "tiny.gguf").read_bytes() == GGUF
    gone = {"kwargs": {"model": "tiny:1"}, "queue": f"install.{NODE}"}
    removal = flower.post("/api/task/async-apply/tasks.uninstall_model", json=gone).json()["task-id"]
    until(lambda: result(flower, removal)["state"] == "SUCCESS", every_s=0.05)
    assert not (place.store / "tiny.gguf").exists()


@pytest.mark.parametrize("terminate", [False, True])
def test_cancelled_over_flower(flower: httpx.Client, place: Host, *, terminate: bool):
    with serving(FileServer(stalls=[100_000, 0, 0, 0, 0])) as server:
        task_id = ask(flower, **tiny(server))
        until(lambda: place.downloading(task_id), every_s=0.05)
        path = f"/api/task/revoke/{task_id}" + ("?terminate=true" if terminate else "")
        assert flower.post(path).status_code == 200
        assert "[cancelled]" in place.words(task_id)
        until(lambda: info(flower, task_id).get("state") == "FAILURE", every_s=0.1)
    assert [kept.standing for _, kept in journal.unfinished(place.store)] == ["paused"]
    assert not (place.store / "tiny.gguf").exists()


def test_what_fails_is_told_with_its_code(flower: httpx.Client, place: Host):
    task_id = ask(flower, model="no-such:1b")
    until(lambda: result(flower, task_id)["state"] == "FAILURE", every_s=0.05)
    assert "[model_not_found]" in str(result(flower, task_id)["result"])


def test_celery_call(place: Host):
    """`celery -A tasks call`, word for word as docs/operations.md has it."""
    with serving(FileServer()) as server:
        arguments = json.dumps(tiny(server))
        argv = [sys.executable, "-m", "celery", "-A", "tasks", "call", "tasks.install_model"]
        argv += ["--kwargs", arguments, "--queue", f"install.{NODE}"]
        env = {name: value for name, value in place.env.items() if name in os.environ or name.startswith("PENDRA")}
        done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=True)
        task_id = done.stdout.split()[-1]
        assert place.done(task_id)["status"] == "SUCCESS"
    revoke = [sys.executable, "-m", "celery", "-A", "tasks", "control", "revoke"]
    with serving(FileServer(stalls=[50_000, 0, 0, 0, 0])) as server:
        task_id = place.ask(model="slow:1", source=f"{server.base}/slow.gguf", sha256=SHA256)
        until(lambda: place.downloading(task_id), every_s=0.05)
        subprocess.run([*revoke, task_id], cwd=ROOT, env=env, capture_output=True, timeout=60, check=True)
        assert "[cancelled]" in place.words(task_id)


def test_flower_is_not_open(flower: httpx.Client):
    body = {"kwargs": {"model": "x"}}
    with httpx.Client(base_url=flower.base_url, trust_env=False, timeout=PATIENCE_S) as stranger:
        assert stranger.post("/api/task/async-apply/tasks.install_model", json=body).status_code == 401
