"""The control channel: cancels arrive, junk does no harm, a restart of Redis neither."""

from __future__ import annotations

import json
import threading

import pytest

from tasks import keys
from tasks.redis_client import connect
from tests.fakes.redis_server import RedisServer
from tests.fakes.waiting import PATIENCE_S, until
from worker.control import Cancel, Control, Drain, parse

CANCEL = json.dumps({"op": "cancel", "job_id": "j", "attempt": 1})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (CANCEL, Cancel("j", 1)),
        ('{"op": "drain"}', Drain()),
        ('{"op": "dance"}', None),
        ('{"op": "cancel"}', None),
        ('{"op": "cancel", "job_id": "j", "attempt": "x"}', None),
        ("[]", None),
        ("7", None),
        ("\xff", None),
    ],
)
def test_what_is_understood(data, expected):
    assert parse(data.encode("latin-1")) == expected


class Heard:
    def __init__(self, client) -> None:
        self.cancelled: list[tuple[str, int]] = []
        self.drained = threading.Event()
        self.control = Control(
            client, "w", on_cancel=lambda *what: self.cancelled.append(what), on_drain=self.drained.set
        )


@pytest.fixture
def server(tmp_path):
    with RedisServer(tmp_path) as server:
        yield server


def test_commands_reach_the_process_also_after_junk_and_after_a_restart_of_redis(server):
    with connect(server.url) as client:
        heard = Heard(client)
        heard.control.start()
        until(lambda: client.publish(keys.control("w"), "junk"))
        client.publish(keys.control("w"), CANCEL)
        until(lambda: heard.cancelled == [("j", 1)])
        server.kill()
        server.start()
        until(lambda: client.publish(keys.control("w"), '{"op": "drain"}'))
        assert heard.drained.wait(PATIENCE_S)
        heard.control.stop()


def test_a_subscription_on_which_nothing_comes_back_is_given_up(server, monkeypatch):
    import worker.control

    monkeypatch.setattr(worker.control, "_DEAF_S", 0.2)
    monkeypatch.setattr(worker.control, "_POLL_S", 0.05)
    with connect(server.url) as client:
        heard = Heard(client)
        heard.control.start()  # no ping within 0.2 s: deaf
        until(lambda: client.publish(keys.control("w"), CANCEL))
        before = client.info("stats")["total_connections_received"]
        until(lambda: client.info("stats")["total_connections_received"] > before + 1)
        heard.control.stop()


def test_pings_keep_a_quiet_subscription(server, monkeypatch, caplog):
    import worker.control

    monkeypatch.setattr(worker.control, "_DEAF_S", 2.0)
    monkeypatch.setattr(worker.control, "_POLL_S", 0.05)
    monkeypatch.setattr(worker.control, "_PING_S", 0.1)
    with connect(server.url) as client:
        heard = Heard(client)
        heard.control.start()
        until(lambda: client.info("commandstats").get("cmdstat_ping", {}).get("calls", 0) >= 24)
        heard.control.stop()
    assert "control.lost" not in caplog.text
