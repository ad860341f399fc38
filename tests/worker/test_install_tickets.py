"""Which installs stop, and why."""

from __future__ import annotations

import pytest

from tasks import keys
from tasks.redis_client import connect
from worker.install_tickets import Tickets
from worker.store.run import Stop


@pytest.fixture
def client(redis_url):
    with connect(redis_url) as client:
        yield client


def test_a_cancel_hits_by_task_or_by_model(client):
    tickets = Tickets(client)
    with tickets.running("t1", "tiny:1") as one, tickets.running("t2", "tiny:1") as two:
        assert tickets.why_stop("t1", one) is None
        assert tickets.cancel("t1", Stop.KEEP) == ["t1"]
        assert (tickets.why_stop("t1", one), tickets.why_stop("t2", two)) == (Stop.KEEP, None)
        assert tickets.cancel("tiny:1", Stop.DISCARD) == ["t1", "t2"]
    assert tickets.cancel("tiny:1", Stop.KEEP) == []


def test_a_cancel_from_before_it_began_is_found(client):
    client.set(keys.install_stop("t1"), "discard")
    client.set(keys.install_stop("t2"), "nonsense")
    tickets = Tickets(client)
    with tickets.running("t1", "tiny:1") as one, tickets.running("t2", "tiny:1") as two:
        assert (tickets.why_stop("t1", one), tickets.why_stop("t2", two)) == (Stop.DISCARD, None)


def test_a_drain_stops_all_until_later(client):
    tickets = Tickets(client)
    with tickets.running("t1", "tiny:1") as one:
        tickets.drain()
        assert tickets.why_stop("t1", one) is Stop.LATER
