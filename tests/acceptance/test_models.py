"""A fresh machine gets its model, answers with it, and lets go of it again; nothing is restarted in between."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.stack import MODEL, Stack, eventually

MB = 1 << 20
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
LONG = {**HELLO, "max_tokens": 5000, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An empty home, an empty store."""
    home = tmp_path_factory.mktemp("fresh")
    stack = Stack(home, home / "models", args=("--workers", "1", "--slots", "2"), model=None)
    stack.start()
    try:
        assert eventually(lambda: workers(stack), 60, 0.1), stack.log.read_text()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def client(fresh: Stack) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {fresh.key}"}
    with httpx.Client(base_url=fresh.url, headers=headers, timeout=60) as client:
        yield client


def workers(stack: Stack) -> int:
    with contextlib.suppress(httpx.HTTPError):
        return int(httpx.get(f"{stack.url}/healthz", timeout=2).json()["workers"])
    return 0


def chat(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/chat/completions", json=HELLO)


def served(client: httpx.Client) -> list[str]:
    return [row["id"] for row in client.get("/v1/models").json()["data"]]


def rss(stack: Stack) -> int:
    return sum(psutil.Process(one["pid"]).memory_info().rss for one in stack.processes("worker"))


def test_a_fresh_machine_installs_answers_and_uninstalls(fresh: Stack, client: httpx.Client) -> None:
    pids = [one["pid"] for one in fresh.processes("worker")]
    missing = chat(client)
    assert (missing.status_code, missing.json()["code"]) == (404, "model_not_installed")
    done = fresh.cli("models", "install", MODEL)
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: served(client) == [MODEL], every=0.02)
    answer = chat(client)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"]
    assert fresh.cli("models", "install", MODEL).stdout.startswith(f"{MODEL} is installed already")
    with_model = rss(fresh)

    with streaming(client) as lines:
        next(lines)
        refused = fresh.cli("models", "uninstall", MODEL)
        assert refused.returncode != 0
        assert "in use by 1 job" in refused.stderr
        assert (fresh.models_dir / "SmolLM2-135M-Instruct.Q4_1.gguf").exists()
        forced = uninstall(fresh, "--force")
        assert eventually(lambda: served(client) == [])  # no new jobs, but this one goes on
        for _ in range(20):
            assert "error" not in next(lines)
        assert forced.poll() is None
    out, err = forced.communicate(timeout=60)
    assert forced.returncode == 0, err
    assert "SmolLM2-135M-Instruct.Q4_1.gguf" in out
    assert not list(fresh.models_dir.glob("*.gguf*"))
    assert chat(client).json()["code"] == "model_not_installed"
    assert eventually(lambda: rss(fresh) < with_model - 60 * MB), (with_model / MB, rss(fresh) / MB)
    assert [one["pid"] for one in fresh.processes("worker")] == pids


def test_the_same_over_http(fresh: Stack, client: httpx.Client) -> None:
    with client.stream("GET", "/api/v1/installs/events") as response:  # before it begins: its first step is told, too
        (begun,) = client.post("/api/v1/installs", json={"model": MODEL}).json()["data"]
        told = list(until_its_end(rows_of(response), begun["id"]))
    path = f"/api/v1/installs/{begun['id']}"
    assert told[0]["stage"] == "waiting"
    assert told[-1]["stage"] == "done", told[-1]
    assert {"downloading", "extracting", "verifying"} & {row["stage"] for row in told}
    with client.stream("GET", f"{path}/events") as response:  # one install's: how it stands, and its end
        assert [row["stage"] for row in rows_of(response)] == ["done"]
    assert eventually(lambda: served(client) == [MODEL], every=0.02)
    assert chat(client).status_code == 200
    (gone,) = client.post("/api/v1/uninstalls", json={"model": MODEL, "force": True}).json()["data"]
    assert eventually(lambda: client.get(f"/api/v1/installs/{gone['id']}").json()["state"] == "done")
    assert eventually(lambda: served(client) == [])


@contextlib.contextmanager
def streaming(client: httpx.Client) -> Iterator[Iterator[str]]:
    with client.stream("POST", "/v1/chat/completions", json=LONG) as response:
        assert response.status_code == 200
        yield (line for line in response.iter_lines() if line.startswith("data: "))


def uninstall(stack: Stack, *args: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "ops.cli", "models", "uninstall", MODEL, *args]
    return subprocess.Popen(argv, env=stack.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows_of(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """What a stream of installs tells."""
    found = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith('data: {"action"'))
    return (json.loads(line) for line in found)


def until_its_end(rows: Iterator[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row["id"] == name:
            yield row
            if row["state"] != "running":
                return
