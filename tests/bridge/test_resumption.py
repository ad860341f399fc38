"""A link that comes back: what is replayed, cancelled or forgotten."""

from __future__ import annotations

from bridge.effects import CancelOnWorker
from bridge.protocol import Ack
from tests.bridge.builders import Driven, chunk, finished, worker


def test_jobs_go_on_without_the_link_and_are_replayed() -> None:
    driven = Driven(worker())
    driven.start()
    driven.events(chunk(1, "a"))
    driven.session.unlinked()
    driven.clear()
    driven.events(chunk(2, "b"))
    driven.events(chunk(3, "c"), finished(4))
    assert driven.frames == []
    driven.link(j1=1)
    assert driven.of("resume")[0]["jobs"] == [{"job_id": "j1", "seq": 4}]
    assert driven.seqs() == [2, 3, 4]
    assert driven.text() == "bc"
    assert len(driven.of("usage")) == 1


def test_the_replay_starts_after_what_the_api_has() -> None:
    driven = Driven(worker())
    driven.start()
    driven.events(chunk(1, "a"), chunk(2, "b"))
    driven.session.unlinked()
    driven.clear()
    driven.link(j1=2)
    assert driven.seqs() == []
    driven.events(chunk(3, "c"))
    assert driven.seqs() == [3]


def test_jobs_the_api_forgot_are_cancelled_and_jobs_we_do_not_know_are_answered() -> None:
    driven = Driven(worker())
    driven.start()
    driven.session.unlinked()
    driven.clear()
    driven.link(lost=4)
    assert driven.effects == [CancelOnWorker("w1", "j1", 0)]
    (error,) = driven.of("error")
    assert (error["job_id"], error["code"], error["seq"]) == ("lost", "worker_lost", 5)


def test_what_no_buffer_could_hold_ends_with_a_gap() -> None:
    driven = Driven(worker())
    driven.start()
    driven.session.unlinked()
    for seq in range(1, 5):
        driven.events(chunk(seq, "x" * 300_000))
    assert driven.effects[-1] == CancelOnWorker("w1", "j1", 0), "at once, not when the link is back"
    driven.clear()
    driven.link(j1=0)
    (error,) = driven.of("error")
    assert (error["code"], error["seq"]) == ("stream_gap", 1)


def test_an_ack_forgets_what_the_api_has() -> None:
    driven = Driven(worker())
    driven.start()
    driven.events(chunk(1, "a"), chunk(2, "b"))
    driven.send(Ack(job_id="j1", seq=1))
    driven.events(finished(3))
    driven.send(Ack(job_id="j1", seq=3))
    driven.send(Ack(job_id="j1", seq=3))
    driven.session.unlinked()
    driven.clear()
    driven.link()
    assert driven.of("resume")[0]["jobs"] == []


def test_a_new_link_hears_of_the_fleet_again() -> None:
    driven = Driven(worker())
    driven.session.unlinked()
    driven.link()
    assert {f["type"] for f in driven.frames} == {"resume", "workers", "models", "capacity", "keys"}
