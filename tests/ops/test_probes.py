"""When a part counts as ready."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from ops import probes
from tasks import keys
from tasks.contract import ModelInfo, WorkerInfo
from worker.children import Run

NOW = time.time()
RUN = Run(pid=1, started_at=NOW)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with closing(redis.Redis.from_url(redis_url)) as made:
        yield made


def beat(client: redis.Redis, *, started_at: float = NOW + 1, epoch: str = "e", loaded: bool = False) -> None:
    info = WorkerInfo(
        worker_id="w",
        epoch=epoch,
        name="w",
        node="n",
        pid=1,
        version="0",
        device="cpu0",
        slots_total=1,
        models=(ModelInfo(id="a:1b"), ModelInfo(id="b:1b", loaded=loaded)),
        started_at=started_at,
    )
    client.hset(keys.WORKERS, "w", info.model_dump_json())
    client.set(keys.worker_lease("w"), "e")


@pytest.mark.integration
def test_a_worker_is_ready_with_its_first_heartbeat(redis_url: str, client: redis.Redis) -> None:
    assert not probes.worker_ready(redis_url, (), "w", RUN)
    beat(client)
    assert probes.worker_ready(redis_url, (), "w", RUN)


@pytest.mark.integration
def test_the_heartbeat_of_an_earlier_life_does_not_count(redis_url: str, client: redis.Redis) -> None:
    beat(client, started_at=NOW - 1)
    assert not probes.worker_ready(redis_url, (), "w", RUN)


@pytest.mark.integration
def test_nor_does_one_without_its_lease(redis_url: str, client: redis.Redis) -> None:
    beat(client, epoch="other")
    assert not probes.worker_ready(redis_url, (), "w", RUN)


@pytest.mark.integration
def test_a_worker_that_preloads_is_ready_once_a_model_is_in_memory(redis_url: str, client: redis.Redis) -> None:
    beat(client)
    assert not probes.worker_ready(redis_url, ("a:1b", "b:1b"), "w", RUN)
    beat(client, loaded=True)
    assert probes.worker_ready(redis_url, ("a:1b", "b:1b"), "w", RUN)
    assert not probes.worker_ready(redis_url, ("a:1b",), "w", RUN)


def test_no_redis_is_not_ready() -> None:
    assert not probes.worker_ready("unix:///nonexistent/r.sock", (), "w", RUN)
    assert not probes.redis_ready("unix:///nonexistent/r.sock")


def test_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert probes.port_ready("127.0.0.1", port)
    assert not probes.port_ready("127.0.0.1", port)
    assert probes.health(f"http://127.0.0.1:{port}") is None
    assert not probes.bridge_ready(f"http://127.0.0.1:{port}")
