"""Slots under load: no idle second after a job, no job hoarded by a busy worker, life after Redis dies."""

from __future__ import annotations

import signal
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from tasks import keys
from tasks.events import unpack
from tests.fakes.redis_server import RedisServer
from tests.fakes.waiting import PATIENCE_S, until
from tests.integration.worker_fleet import MODEL, Fleet

pytestmark = pytest.mark.integration


@pytest.fixture
def fleet(redis_url, tmp_path) -> Iterator[Fleet]:
    fleet = Fleet(redis_url, tmp_path, PENDRA_GRACE_SECONDS="600")  # what ends sooner did not wait it out
    yield fleet
    fleet.close()


def claimed_at(fleet: Fleet) -> list[float]:
    """When each job's first event reached the stream, by Redis' clock, in ms."""
    rows = fleet.client.xrange(keys.replay("b1"))
    return [
        float(stream_id.partition(b"-")[0])
        for stream_id, row in rows
        for envelope in unpack(row[b"b"])
        if envelope.seq == 0
    ]


def test_a_freed_slot_takes_the_next_job_in_milliseconds(fleet):
    """Without task events the consumer would sleep out its BRPOP: 951 ms per job."""
    with fleet.worker("w1", slots=1):
        fleet.submit("blocker", body={"hold": True})
        until(lambda: "progress" in fleet.types("blocker"))
        for n in range(20):
            fleet.submit(f"j{n}", slots=99)
        fleet.cancel("blocker")
        fleet.finished("j19", 30)
        stamps = claimed_at(fleet)
    gaps = [later - earlier for earlier, later in pairwise(stamps[1:])]
    assert len(gaps) == 19
    assert statistics.median(gaps) < 600, f"slot turnaround {gaps} ms"


def test_an_idle_worker_gets_what_the_busy_one_cannot_start(fleet):
    with fleet.worker("w1", slots=1), fleet.worker("w2", slots=1):
        for n in range(4):
            fleet.submit(f"j{n}", slots=99, body={"hold": True})
        until(lambda: sum("progress" in fleet.types(f"j{n}") for n in range(4)) == 2)
        running = {fleet.events(f"j{n}")[0].worker_id for n in range(4) if fleet.events(f"j{n}")}
        assert running == {"w1", "w2"}
        assert fleet.client.llen(keys.model_queue(MODEL)) == 2  # nothing is held in reserve
        for n in range(4):
            until(lambda n=n: "progress" in fleet.types(f"j{n}"))
            fleet.cancel(f"j{n}", fleet.events(f"j{n}")[0].worker_id)
            fleet.finished(f"j{n}")
        assert fleet.held("w1") == fleet.held("w2") == set()


def test_a_job_pulled_by_another_worker_takes_its_credit_along(fleet):
    with fleet.worker("w1", slots=1), fleet.worker("w2", slots=1):
        for n in range(2):
            fleet.submit(f"j{n}", "w1", slots=99, body={"hold": True})
        until(lambda: all("progress" in fleet.types(f"j{n}") for n in range(2)))
        assert (len(fleet.held("w1")), len(fleet.held("w2"))) == (1, 1)
        for n in range(2):
            fleet.cancel(f"j{n}", fleet.events(f"j{n}")[0].worker_id)
            fleet.finished(f"j{n}")


def test_sigquit_ends_it_at_once(fleet):
    with fleet.worker("w1") as process:
        fleet.submit("long", body={"hold": True})
        until(lambda: "progress" in fleet.types("long"))
        process.send_signal(signal.SIGQUIT)
        assert process.wait(PATIENCE_S) == 1
        assert fleet.info("w1") is None


def test_the_worker_drains_on_the_first_signal_and_ends_at_once_on_the_second(fleet):
    with fleet.worker("w1", slots=2) as process:
        fleet.submit("long", body={"hold": True})
        until(lambda: "progress" in fleet.types("long"))
        process.terminate()
        until(lambda: fleet.info("w1") and fleet.info("w1").draining)
        assert process.poll() is None
        process.terminate()
        assert process.wait(PATIENCE_S) == 1  # the job that it holds would never end
        assert fleet.info("w1") is None  # it said goodbye all the same


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGHUP])
def test_a_draining_worker_finishes_what_it_has_and_leaves(fleet, asked):
    with fleet.worker("w1", slots=2) as process:
        fleet.submit("long", body={"hold": True})
        until(lambda: "progress" in fleet.types("long"))
        process.send_signal(asked)
        until(lambda: fleet.info("w1") and fleet.info("w1").draining)
        fleet.cancel("long")
        assert process.wait(PATIENCE_S) == 0
        assert fleet.types("long")[-1] == "failed"
        assert not fleet.client.exists(keys.worker_lease("w1"), keys.WORKERS, keys.credits_of("w1"))


@contextmanager
def ended_tasks(fleet: Fleet) -> Iterator[list[str]]:
    """Ids of the jobs whose Celery tasks end meanwhile, as Flower hears of them."""
    ended: list[str] = []
    before = fleet.client.pubsub_numpat()
    with fleet.app.connection_for_read() as connection:
        hears = {"task-succeeded": lambda event: ended.append(event["uuid"])}
        receiver = fleet.app.events.Receiver(connection, hears)
        reading = threading.Thread(target=receiver.capture, kwargs={"wakeup": False})
        reading.start()
        until(lambda: fleet.client.pubsub_numpat() > before)
        try:
            yield ended
        finally:
            receiver.should_stop = True
            reading.join(PATIENCE_S)


def test_a_worker_that_leaves_tells_how_its_last_task_ended(fleet):
    with ended_tasks(fleet) as ended, fleet.worker("w1", slots=1) as process:
        fleet.submit("last", body={"hold": True})
        until(lambda: "progress" in fleet.types("last"))
        process.terminate()
        until(lambda: fleet.info("w1") and fleet.info("w1").draining)
        fleet.cancel("last")
        assert process.wait(PATIENCE_S) == 0
        until(lambda: len(ended) == 1)


@pytest.fixture
def mortal(tmp_path) -> Iterator[tuple[RedisServer, Fleet]]:
    (tmp_path / "redis").mkdir()
    with RedisServer(tmp_path / "redis") as server:
        fleet = Fleet(server.url, tmp_path)
        yield server, fleet
        fleet.close()


def test_after_redis_died_an_idle_worker_is_back(mortal):
    server, fleet = mortal
    with fleet.worker("w1"):
        server.kill()
        server.start()
        until(lambda: fleet.info("w1"))
        fleet.submit("next")
        assert fleet.finished("next")[-1].type == "finished"
        fleet.submit("and-cancel", body={"hold": True})
        until(lambda: "progress" in fleet.types("and-cancel"))
        until(lambda: fleet.client.pubsub_numsub(keys.control("w1"))[0][1])
        fleet.cancel("and-cancel")
        assert fleet.finished("and-cancel")[-1].code == "cancelled"


def test_a_job_that_ran_while_redis_was_away_still_ends_and_frees_its_slot(mortal):
    server, fleet = mortal
    with fleet.worker("w1"):
        fleet.submit("through", body={"hold": True})
        until(lambda: "progress" in fleet.types("through"))
        server.kill()
        server.start()
        until(lambda: fleet.held() == {b"through"})  # claimed again by the heartbeat
        until(lambda: fleet.client.pubsub_numsub(keys.control("w1"))[0][1])
        fleet.cancel("through")
        said = fleet.finished("through")
        assert said[-1].code == "cancelled"
        assert {event.seq for event in said} == set(range(said[-1].seq + 1)), "a hole after the loss"
        until(lambda: fleet.held() == set())
        until(lambda: fleet.info("w1").slots_busy == 0)
