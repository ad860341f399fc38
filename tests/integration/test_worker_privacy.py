"""No prompt and no reply in clear: not in Redis, not on its wire, not in what Celery shows, not in a log."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.celery_config import ARGSREPR, INFER
from tests.fakes.waiting import PATIENCE_S, until
from tests.fakes.worker_child import SECRET
from tests.integration.worker_fleet import Fleet

pytestmark = pytest.mark.integration

PROMPT = "the-patient-has-a-secret"


@pytest.fixture
def fleet(redis_url, tmp_path) -> Iterator[Fleet]:
    fleet = Fleet(redis_url, tmp_path)
    yield fleet
    fleet.close()


@contextmanager
def monitor(path: str) -> Iterator[bytearray]:
    """Everything that is said to Redis, as MONITOR shows it."""
    seen = bytearray()
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(path)
        wire.sendall(b"MONITOR\r\n")

        def read() -> None:
            while piece := wire.recv(65536):
                seen.extend(piece)

        reader = threading.Thread(target=read)
        reader.start()
        until(lambda: seen.startswith(b"+OK"))
        try:
            yield seen
        finally:
            wire.shutdown(socket.SHUT_RDWR)
            reader.join()


def dump(fleet: Fleet) -> bytes:
    fleet.client.config_set("rdbcompression", "no")  # else DUMP might hide a text in a compressed one
    return b"".join(key + fleet.client.dump(key) for key in fleet.client.scan_iter())


def test_nothing_readable_passes_through_redis(fleet, redis_server):
    with monitor(str(redis_server.socket)) as seen, fleet.worker("w1", slots=2):
        fleet.submit("chat", body={"messages": [{"content": PROMPT}], "chunks": 3})
        fleet.finished("chat")
        fleet.submit("held", body={"messages": [{"content": PROMPT}], "hold": True})
        until(lambda: "progress" in fleet.types("held"))
        fleet.submit("queued", body={"messages": [{"content": PROMPT}]}, queue="nobody")
        memory = dump(fleet)
        fleet.cancel("held")
        fleet.finished("held")
    assert b"pendra:job:held" in memory  # the dump does hold the job
    assert b"XADD" in seen  # … and the monitor the reply
    for secret in (PROMPT, SECRET):
        assert secret.encode() not in memory
        assert secret.encode() not in seen
        assert secret not in fleet.log("w1").read_text()


def test_celery_shows_ids_only(fleet):
    with fleet.worker("w1"):
        fleet.submit("held", body={"messages": [{"content": PROMPT}], "hold": True})
        until(lambda: "progress" in fleet.types("held"))
        ((active,),) = fleet.inspected("active").values()
        fleet.cancel("held")
        fleet.finished("held")
    assert active["name"] == INFER
    assert active["args"] == ["held", 0, "fake:1b", 1]
    assert PROMPT not in json.dumps(active)


def test_celery_events_show_a_constant_in_place_of_the_arguments(fleet):
    received: list[dict[str, object]] = []
    with fleet.worker("w1"), fleet.app.connection() as connection:
        receiver = fleet.app.events.Receiver(connection, handlers={"*": received.append})
        with receiver.consumer_context() as (_, channel, _):

            def got(kind: str) -> bool:
                channel.connection.client.drain_events(timeout=PATIENCE_S)
                return any(one["type"] == kind for one in received)

            until(lambda: got("worker-heartbeat"))  # subscribed
            fleet.submit("chat", body={"messages": [{"content": PROMPT}], "raise": True})
            fleet.finished("chat")
            until(lambda: got("task-succeeded"))
    (task,) = (one for one in received if one["type"] == "task-received")
    assert task["args"] == ARGSREPR
    text = json.dumps(received, default=str)
    assert PROMPT not in text
    assert SECRET not in text
