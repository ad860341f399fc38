"""A bridge that died and its successor: jobs go on where they were, whatever the replay stream still has."""

from __future__ import annotations

from bridge.effects import Acquire, CancelOnWorker, Heal
from bridge.entries import Found
from bridge.fleet import Gone
from bridge.protocol import Ack
from bridge.supervision import CLAIM_S, SILENT_S
from tasks.contract import Resume
from tasks.keys import WORKER_LEASE_S
from tests.bridge.builders import Driven, chunk, claimed, failed, finished, job, worker
from tests.bridge.succession import Succession, acquires, running


def test_a_stream_goes_on_where_the_reader_is() -> None:
    succession = running()
    succession.publish(chunk(1, "a", tokens=(7,)))
    succession.publish(chunk(2, "b", tokens=(8,)), unread=True)
    new = succession.successor(worker(), holders={"j1": "w1"})
    new.link(j1=1)
    assert new.text() == "b"
    new.events(chunk(3, "c"), finished(4))
    assert new.text() == "bc"
    assert new.seqs() == [2, 3, 4]
    new.send(Ack(job_id="j1", seq=4))
    assert not new.registry
    assert acquires(new) == []


def test_a_job_that_ended_while_nobody_listened_is_delivered() -> None:
    succession = running()
    succession.publish(chunk(1, "a"), finished(2), unread=True)
    new = succession.successor(worker())
    new.link(j1=0)
    assert new.text() == "a"
    assert len(new.of("usage")) == len(new.of("result")) == 1
    assert new.session.open_jobs == 0
    new.send(Ack(job_id="j1", seq=2))
    assert not new.registry


def test_an_end_that_was_lost_with_link_and_bridge_is_told_by_the_successor() -> None:
    succession = running()
    succession.publish(chunk(1, "a"))
    succession.publish(chunk(2, "b"), finished(3))
    assert len(succession.old.of("result")) == 1, "on a link that passes nothing on"
    new = succession.successor(worker())
    new.link(j1=1)
    assert new.text() == "b"
    assert len(new.of("usage")) == len(new.of("result")) == 1
    assert acquires(new) == []


def test_a_worker_that_dies_after_its_bridge_is_followed_by_another() -> None:
    succession = running(worker("w1"), worker("w2"))
    succession.publish(chunk(1, "a", tokens=(7,)))
    new = succession.successor(worker("w1"), worker("w2"), holders={"j1": "w1"})
    new.link(j1=1)
    new.tick(4.0, worker("w2"))
    (again,) = acquires(new)
    assert (again.job.attempt, again.job.first_seq, again.job.resume) == (1, 2, Resume(token_ids=(7,)))
    assert again.candidates == (("w2", 2),)


def test_an_attempt_that_the_predecessor_took_back_runs_again() -> None:
    """It died before the next one was written down: its worker's word that it stopped is no end."""
    succession = running(worker("w1"), worker("w2"))
    succession.publish(failed(1, code="cancelled", retryable=False), unread=True)
    new = succession.successor(worker("w1"), worker("w2"))
    new.link(j1=0)
    assert new.of("error") == []
    assert [effect.job.attempt for effect in acquires(new)] == [1]


def test_a_later_attempt_is_taken_over_as_such() -> None:
    succession = running(worker("w1"), worker("w2"))
    succession.publish(chunk(1, "a", tokens=(7,)))
    (again,) = [e for e in succession.old.tick(4.0, worker("w2")) if isinstance(e, Acquire)]
    succession.old.take(again)
    succession.publish(claimed(seq=2, attempt=1, worker_id="w2"))
    succession.publish(chunk(2, "from the dead"), unread=True)
    succession.publish(chunk(3, "b", attempt=1), unread=True)
    new = succession.successor(worker("w2"), holders={"j1": "w2"})
    new.link(j1=2)
    assert new.text() == "b"
    assert new.of("error") == []


def test_what_waited_waits_again() -> None:
    succession = Succession(Driven(worker(slots=1)))
    succession.old.start("runs")
    succession.stream.append([claimed("runs")])
    succession.old.send(job("waits"))
    new = succession.successor(worker(slots=1), holders={"runs": "w1"})
    assert acquires(new) == []
    new.link(runs=0, waits=-1)
    new.events(finished(1, "runs"))
    (again,) = acquires(new)
    assert (again.job.job_id, again.job.first_seq) == ("waits", 0)


def test_what_is_in_the_queue_stays_there_for_a_while() -> None:
    succession = Succession(Driven(worker()))
    succession.old.take(next(e for e in succession.old.send(job()) if isinstance(e, Acquire)))
    new = succession.successor(worker(), holders={"j1": "w1"})
    assert acquires(new) == []
    new.tick(CLAIM_S + 0.1, worker())
    assert [effect.job.attempt for effect in acquires(new)] == [1]


def test_what_the_api_forgot_meanwhile_is_stopped() -> None:
    succession = running()
    new = succession.successor(worker(), holders={"j1": "w1"})
    new.link()
    assert CancelOnWorker("w1", "j1", 0) in new.effects
    assert new.registry["j1"].over


def test_a_stream_trimmed_past_what_the_reader_has_ends_with_one_error() -> None:
    succession = running()
    for seq in range(1, 6):
        succession.publish(chunk(seq, str(seq)))
    new = succession.successor(worker(), holders={"j1": "w1"}, trimmed=3)
    new.link(j1=5)
    assert not new.of("error"), "its worker may say it again"
    new.tick(SILENT_S + 1, worker())
    (error,) = new.of("error")
    assert error["seq"] == 6
    assert not new.registry


def test_what_the_api_has_and_the_stream_has_not_is_waited_for() -> None:
    """Redis was full: its workers' events came through, but could not be written down."""
    succession = running()
    succession.publish(chunk(1, "a"), chunk(2, "b"))
    succession.stream.clear()
    succession.stream.append([claimed()])
    new = succession.successor(worker(), holders={"j1": "w1"})
    new.link(j1=2)
    new.events(chunk(1, "a"), chunk(2, "b"))  # its worker says it again
    new.events(chunk(3, "c"), finished(4))
    assert new.seqs() == [0, 1, 2, 3, 4], "the API drops what it has"
    assert not new.of("error")


def test_who_adopts_judges_nobody_until_everything_is_read() -> None:
    old = Driven(worker("w1"), worker("w2"))
    old.start()
    old.events(chunk(1, "a", tokens=(7,)))
    new = Driven(worker("w1"), worker("w2"), linked=False)
    new.registry = dict(old.registry)
    new.do(new.session.adopt([Found(entry, "w1") for entry in old.registry.values()], new.now))
    new.session.heal_started()
    new.beat(worker("w1", epoch="another"))  # the worker is a new process: the attempt is lost
    new.events(claimed(), chunk(1, "a", tokens=(7,)))
    new.do(new.session.healed(new.now, full=True))
    new.do(new.session.adopted(new.now))
    (acquire,) = acquires(new)
    assert acquire.job.resume == Resume(token_ids=(7,)), "it goes on after what was read last"


def test_tenants_are_counted_once() -> None:
    succession = running()
    new = succession.successor(worker(), holders={"j1": "w1"})
    new.link(j1=0)
    new.events(failed(1))
    assert not new.session._ledger.scheduler._tenants
    assert not new.session._ledger.fleet._holder


def test_heals_asked_for_while_adopting_are_those_of_a_live_session() -> None:
    succession = running()
    succession.publish(chunk(1, "a"), unread=True)
    new = succession.successor(worker(), holders={"j1": "w1"})
    assert [effect for effect in new.effects if isinstance(effect, Heal)] == []


def test_a_job_whose_worker_was_started_anew_before_we_came_goes_to_another() -> None:
    """The worker lives, but it is another process than the one that claimed the job."""
    old = Driven(worker("w1"), worker("w2"))
    old.start()
    new = Driven(worker("w1", epoch="e2"), worker("w2"), linked=False)
    new.registry = dict(old.registry)
    new.do(new.session.adopt([Found(entry, "w1") for entry in old.registry.values()], new.now))
    new.session.heal_started()
    new.events(claimed().model_copy(update={"epoch": "e1"}), chunk(1, "a", tokens=(7,)))
    new.do(new.session.healed(new.now, full=True))
    new.do(new.session.adopted(new.now))
    new.link(j1=1)
    new.tick(WORKER_LEASE_S + 0.5, worker("w1", epoch="e2"), worker("w2"))
    (acquire,) = acquires(new)
    assert (acquire.job.attempt, acquire.job.resume) == (1, Resume(token_ids=(7,)))


def test_what_the_api_never_got_of_an_older_attempt_is_sent_by_the_successor() -> None:
    old = Driven(worker("w1"), worker("w2"))
    old.start()
    old.session.unlinked()
    old.events(chunk(1, "a", tokens=(7,)))
    old.tick(0.1, worker("w2"))
    old.do(old.session.fleet_news(Gone("w1"), old.now))
    old.tick(0.1, worker("w2"))
    new = Driven(worker("w2"), linked=False)
    new.registry = dict(old.registry)
    new.do(new.session.adopt([Found(entry) for entry in old.registry.values()], new.now))
    new.do(new.session.adopted(new.now))
    new.link(j1=-1)
    assert new.seqs() == [0, 1]
    assert not new.of("error")
