"""`pendra drain` against a Redis that has a worker's heartbeat in it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from ops.cli import run
from tasks import keys
from tasks.contract import WorkerInfo
from tasks.redis_client import connect
from tests.fakes.waiting import PATIENCE_S

INFO = WorkerInfo(
    worker_id="w1", epoch="e1", name="W", node="n", pid=1, version="1", device="cpu0", slots_total=4, slots_busy=1
)


@pytest.fixture
def client(redis_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    monkeypatch.setenv("PENDRA_REDIS_URL", redis_url)
    with connect(redis_url) as client:
        yield client


def beat(client: redis.Redis, **changes: Any) -> None:
    info = INFO.model_copy(update=changes)
    client.set(keys.worker_lease("w1"), info.epoch)
    client.hset(keys.WORKERS, "w1", info.model_dump_json())


def worker(client: redis.Redis, react: Callable[[], None]) -> tuple[threading.Thread, list[Any]]:
    """Something that listens on the control channel and does `react` when told."""
    heard: list[Any] = []
    pubsub = client.pubsub()
    pubsub.subscribe(keys.control("w1"))
    pubsub.get_message(timeout=PATIENCE_S)

    def listen() -> None:
        message = pubsub.get_message(timeout=PATIENCE_S)
        if message:
            heard.append(json.loads(message["data"]))
            react()
        pubsub.close()

    thread = threading.Thread(target=listen)
    thread.start()
    return thread, heard


def test_a_worker_is_told_to_leave_and_waited_for(client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    beat(client)
    thread, heard = worker(client, lambda: client.delete(keys.worker_lease("w1")))
    assert run(["drain", "w1"]) == 0
    thread.join()
    assert heard == [{"op": "leave"}]
    out = capsys.readouterr().out
    assert "1 of 4 slots are busy" in out
    assert "drained and ended" in out


def test_one_that_was_restarted_meanwhile_is_gone_too(client: redis.Redis) -> None:
    beat(client)
    thread, _ = worker(client, lambda: beat(client, epoch="e2"))
    assert run(["drain", "w1"]) == 0
    thread.join()


def test_one_that_stays_is_waited_for_until_it_is_idle(
    client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    beat(client)
    thread, heard = worker(client, lambda: beat(client, draining=True, slots_busy=0))
    assert run(["drain", "w1", "--stay"]) == 0
    thread.join()
    assert heard == [{"op": "drain"}]
    assert "out of service" in capsys.readouterr().out


def test_an_unknown_worker_is_named_beside_those_there_are(
    client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    beat(client)
    assert run(["drain", "w9"]) == 1
    error = capsys.readouterr().err
    assert "'w9'" in error
    assert "w1" in error
    assert "worker_not_found" in error


def test_a_deaf_worker_is_an_error(client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    beat(client)
    assert run(["drain", "w1"]) == 1
    assert "does not listen" in capsys.readouterr().err
