"""`pendra status`: exact JSON for programs, a table for people, exit status 3 when nothing runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from ops.commands.status import command
from ops.home_lock import HomeLock
from ops.node_state import NodeState, StateFile
from tasks import keys
from tasks.contract import ModelInfo, WorkerInfo
from worker.children import Change, ChildSpec, State

FIELDS = {"role", "node", "pid", "worker_id", "device", "models", "slots_busy", "slots_total", "log"}


def status(home: Path, *args: str, redis_url: str = "unix:///nonexistent/redis.sock") -> Result:
    env = {"PENDRA_HOME": str(home), "PENDRA_REDIS_URL": redis_url, "WORKER_ID": "wrk-1", "COLUMNS": "200"}
    return CliRunner().invoke(command, list(args), env=env)


def run_parts(home: Path, redis_url: str) -> None:
    specs = (
        ChildSpec("redis", "redis", ("true",), home / "logs" / "redis.log"),
        ChildSpec("worker-cpu0", "worker", ("true",), home / "logs" / "w.log", worker_id="wrk-1-cpu0", device="CPU"),
    )
    state = NodeState(node="wrk-1", redis_url=redis_url, api_url="http://127.0.0.1:8080")
    file = StateFile(home, state, specs)
    for number, spec in enumerate(specs):
        file.apply(Change(spec, State.READY, pid=os.getpid() + number))


@pytest.fixture
def heartbeat(redis_url: str) -> str:
    info = WorkerInfo(
        worker_id="wrk-1-cpu0",
        epoch="e",
        name="host",
        node="wrk-1",
        pid=1,
        version="0.1.0",
        device="CPU",
        slots_total=8,
        slots_busy=2,
        models=(ModelInfo(id="smollm2:135m"),),
    )
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.WORKERS, info.worker_id, info.model_dump_json())
        client.set(keys.worker_lease(info.worker_id), "e")
    return redis_url


@pytest.mark.integration
def test_json(tmp_path: Path, heartbeat: str) -> None:
    with HomeLock(tmp_path, "pendra up"):
        run_parts(tmp_path, heartbeat)
        done = status(tmp_path, "--json")
    assert done.exit_code == 0
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert set(report) == {"node", "redis_url", "api_url", "processes"}
    assert (report["node"], report["api_url"]) == ("wrk-1", "http://127.0.0.1:8080")
    assert all(set(process) == FIELDS for process in report["processes"])
    worker = report["processes"][1]
    assert (worker["pid"], worker["models"]) == (os.getpid() + 1, ["smollm2:135m"])
    assert (worker["slots_busy"], worker["slots_total"]) == (2, 8)


@pytest.mark.integration
def test_table(tmp_path: Path, heartbeat: str) -> None:
    with HomeLock(tmp_path, "pendra up"):
        run_parts(tmp_path, heartbeat)
        done = status(tmp_path)
    assert done.exit_code == 0
    for words in ("wrk-1-cpu0", "smollm2:135m", "2/8", "http://127.0.0.1:8080", str(os.getpid())):
        assert words in done.stdout
    assert "\x1b[" not in done.stdout


def test_nothing_runs(tmp_path: Path) -> None:
    done = status(tmp_path, "--json")
    assert done.exit_code == 3
    assert "nothing runs" in done.stderr
    assert json.loads(done.stdout)["processes"] == []


@pytest.mark.integration
def test_workers_of_a_configured_redis_are_shown_where_nothing_was_started(tmp_path: Path, heartbeat: str) -> None:
    done = status(tmp_path, "--json", redis_url=heartbeat)
    assert done.exit_code == 0
    assert [process["worker_id"] for process in json.loads(done.stdout)["processes"]] == ["wrk-1-cpu0"]


def test_without_redis_the_parts_are_still_shown(tmp_path: Path) -> None:
    with HomeLock(tmp_path, "pendra up"):
        run_parts(tmp_path, "redis://me:hush@127.0.0.1:1/0")
        done = status(tmp_path, "--json")
    assert done.exit_code == 0
    assert "does not answer" in done.stderr
    assert "hush" not in done.output
    assert [process["slots_busy"] for process in json.loads(done.stdout)["processes"]] == [None, None]


@pytest.mark.integration
def test_check_for_health_checks(tmp_path: Path, heartbeat: str) -> None:
    with HomeLock(tmp_path, "pendra worker"):
        run_parts(tmp_path, heartbeat)
        assert (status(tmp_path, "--check").exit_code, status(tmp_path, "--check").output) == (0, "")
        with redis.Redis.from_url(heartbeat) as client:
            client.delete(keys.worker_lease("wrk-1-cpu0"))
        assert status(tmp_path, "--check").exit_code == 1


def test_check_of_a_node_where_nothing_runs(tmp_path: Path) -> None:
    assert status(tmp_path, "--check").exit_code == 1
