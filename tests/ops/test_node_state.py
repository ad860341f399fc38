"""What `pendra status` is made of: parts, heartbeats, and no password."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import redis

from ops.home_lock import HomeLock
from ops.node_state import NodeState, Part, StateFile, assemble, live_workers, mask, read_state, state_path
from tasks import keys
from tasks.contract import ModelInfo, WorkerInfo
from worker.children import Change, ChildSpec, State


def spec(name: str, **fields: str) -> ChildSpec:
    return ChildSpec(name, fields.pop("role", name), ("true",), Path(f"/logs/{name}.log"), **fields)


def heartbeat(worker_id: str, node: str = "wrk-1", epoch: str = "e1") -> WorkerInfo:
    return WorkerInfo(
        worker_id=worker_id,
        epoch=epoch,
        name="host",
        node=node,
        pid=4,
        version="0.1.0",
        device="CPU",
        slots_total=8,
        slots_busy=3,
        models=(ModelInfo(id="smollm2:135m"),),
    )


NODE = NodeState(node="wrk-1", redis_url="redis://:pw@host:6379/0", api_url="http://127.0.0.1:8080")


def test_the_file_follows_the_changes_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    worker = spec("worker-cpu0", role="worker", worker_id="wrk-1-cpu0", device="CPU")
    with HomeLock(tmp_path, "pendra up"):
        file = StateFile(tmp_path, NODE, (spec("redis"), worker))
        assert [part.pid for part in read_state(tmp_path).parts] == [None, None]
        file.apply(Change(worker, State.STARTING, pid=7))
        file.apply(Change(worker, State.READY, pid=7))
        part = read_state(tmp_path).parts[1]
        assert (part.state, part.pid, part.worker_id, part.log) == ("ready", 7, "wrk-1-cpu0", "/logs/worker-cpu0.log")
        file.apply(Change(worker, State.BACKOFF, pid=7, exit_code=-9, delay_s=1))
        assert read_state(tmp_path).parts[1].pid is None
        assert stat.S_IMODE(state_path(tmp_path).stat().st_mode) == 0o600
        file.remove()
        assert read_state(tmp_path) is None


def test_a_file_left_by_a_killed_supervisor_does_not_count(tmp_path: Path) -> None:
    with HomeLock(tmp_path, "pendra up"):
        StateFile(tmp_path, NODE, (spec("redis"),))
    assert state_path(tmp_path).exists()
    assert read_state(tmp_path) is None


def test_parts_get_their_heartbeats() -> None:
    parts = (
        Part(name="redis", role="redis", pid=2, log="/logs/redis.log"),
        Part(name="worker-cpu0", role="worker", pid=4, worker_id="wrk-1-cpu0", device="CPU"),
        Part(name="worker-cpu1", role="worker", pid=None, worker_id="wrk-1-cpu1", device="CPU"),
    )
    state = NODE.model_copy(update={"parts": parts})
    workers = {name: heartbeat(name) for name in ("wrk-1-cpu0", "wrk-1-cpu1")}
    status = assemble(state, workers, "ignored", "ignored")
    assert status.model_dump() == {
        "node": "wrk-1",
        "redis_url": "redis://:***@host:6379/0",
        "api_url": "http://127.0.0.1:8080",
        "processes": (
            {
                "role": "redis",
                "node": None,
                "pid": 2,
                "worker_id": None,
                "device": None,
                "models": (),
                "slots_busy": None,
                "slots_total": None,
                "log": "/logs/redis.log",
            },
            {
                "role": "worker",
                "node": None,
                "pid": 4,
                "worker_id": "wrk-1-cpu0",
                "device": "CPU",
                "models": ("smollm2:135m",),
                "slots_busy": 3,
                "slots_total": 8,
                "log": None,
            },
            {
                "role": "worker",
                "node": None,
                "pid": None,
                "worker_id": "wrk-1-cpu1",
                "device": "CPU",
                "models": (),
                "slots_busy": None,
                "slots_total": None,
                "log": None,
            },
        ),
    }


def test_the_fleets_other_workers_are_listed_those_of_this_node_first() -> None:
    workers = {"wrk-1-gpu7": heartbeat("wrk-1-gpu7"), "wrk-2-gpu0": heartbeat("wrk-2-gpu0", node="wrk-2")}
    here = assemble(NODE, workers, "wrk-1", "")
    rows = [(process.worker_id, process.node) for process in here.processes]
    assert rows == [("wrk-1-gpu7", None), ("wrk-2-gpu0", "wrk-2")]
    fleet = assemble(None, workers, "wrk-9", "redis://host")
    assert [process.worker_id for process in fleet.processes] == ["wrk-1-gpu7", "wrk-2-gpu0"]
    assert (fleet.node, fleet.api_url) == ("wrk-9", None)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:p%40ss@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://me:secret@host/1?x=1", "rediss://me:***@host/1?x=1"),
        ("unix:///home/me/run/redis.sock", "unix:///home/me/run/redis.sock"),
        ("unix://me:secret@/run/redis.sock", "unix://me:***@/run/redis.sock"),
        ("redis://host/0?password=secret&db=1", "redis://host/0?password=***&db=1"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert mask(url) == shown


@pytest.mark.integration
def test_only_workers_with_their_own_lease_live(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    for name in ("living", "lapsed", "replaced"):
        client.hset(keys.WORKERS, name, heartbeat(name).model_dump_json())
    client.hset(keys.WORKERS, "newer", b'{"v": 2, "shape": "unknown"}')
    client.set(keys.worker_lease("living"), "e1")
    client.set(keys.worker_lease("replaced"), "e2")
    assert list(live_workers(client)) == ["living"]
    client.flushall()
    assert live_workers(client) == {}
    client.close()
