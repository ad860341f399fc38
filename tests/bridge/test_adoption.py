"""A bridge that died and its successor: jobs go on where they were, whatever the replay stream still has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.effects import Acquire, CancelOnWorker, Heal, Release
from bridge.entries import Entry, Found, newest
from bridge.fleet import Gone
from bridge.jobs import RETAIN_S
from bridge.loose_ends import LOOSE_S
from bridge.protocol import Ack, Cancel
from bridge.supervision import CLAIM_S, SILENT_S
from tasks.contract import Event, Job, Resume
from tasks.keys import WORKER_LEASE_S
from tests.bridge.builders import WALL, Driven, batch, chunk, claimed, failed, finished, job, progress, worker


@dataclass
class Succession:
    """A bridge that dies at some point; `stream` is what is in Redis of its workers' events."""

    old: Driven
    stream: list[list[Event]] = field(default_factory=list)

    def publish(self, *events: Event, unread: bool = False) -> None:
        self.stream.append(list(events))
        if not unread:
            self.old.events(*events)

    def successor(self, *fleet: Any, holders: dict[str, str] | None = None, trimmed: int = 0) -> Driven:
        """A new session that has adopted everything. `holders`: jobs that hold a slot, by worker."""
        new = Driven(*fleet, linked=False)
        new.now = self.old.now
        left = [Found(entry, (holders or {}).get(entry.id, "")) for entry in self.old.registry.values()]
        new.registry = dict(self.old.registry)
        new.do(new.session.adopt(left, new.now))
        new.session.heal_started()
        for events in self.stream[trimmed:]:
            new.do(new.session.events(batch(*events), new.now))
        new.do(new.session.healed(new.now, full=True))
        new.do(new.session.adopted(new.now))
        return new


def acquires(driven: Driven) -> list[Acquire]:
    return [effect for effect in driven.effects if isinstance(effect, Acquire)]


def running(*fleet: Any) -> Succession:
    made = Succession(Driven(*(fleet or (worker(),))))
    made.old.start()
    made.stream.append([claimed()])
    return made


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


@pytest.mark.parametrize("how", ["ack", "welcome", "nobody asked again"])
def test_what_the_api_has_is_written_down_no_longer(how: str) -> None:
    succession = running()
    succession.publish(finished(1))
    old = succession.old
    assert old.registry
    if how == "ack":
        old.send(Ack(job_id="j1", seq=1))
    elif how == "welcome":
        old.link()
    else:
        old.tick(RETAIN_S + 0.1, worker())
    assert not old.registry


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


def test_the_entry_is_written_anew_with_every_attempt_and_gone_at_the_end() -> None:
    driven = Driven(worker("w1"), worker("w2"))
    driven.start(worker_id="w1")
    driven.events(progress(seq=1), chunk(2, "a", tokens=(5,)))
    assert driven.registry["j1"].attempt == 0
    driven.tick(4.0, worker("w2"))
    entry = driven.registry["j1"]
    assert (entry.attempt, entry.next_seq, entry.tokens, entry.streamed, entry.losses) == (1, 3, (5,), True, 1)
    driven.send(Cancel(job_id="j1"))
    assert not driven.registry


def test_a_job_that_its_worker_has_still_to_stop_is_written_down_as_over() -> None:
    driven = Driven(worker("w1"))
    driven.start()
    driven.send(Cancel(job_id="j1"))
    entry = driven.registry["j1"]
    assert (entry.over, entry.attempt, entry.frame.body) == (True, 0, {})
    driven.clear()
    driven.tick(LOOSE_S + 0.1, worker("w1"))
    assert driven.effects == [Release("j1", 0)], "should its worker not have done it"
    assert not driven.registry


def test_its_worker_says_when_it_has_stopped() -> None:
    driven = Driven(worker("w1"))
    driven.start()
    driven.send(Cancel(job_id="j1"))
    driven.clear()
    driven.events(chunk(1, "a", tokens=(5,)))
    assert driven.registry
    driven.events(failed(2, code="cancelled"))
    assert not driven.registry
    driven.tick(LOOSE_S + 0.1, worker("w1"))
    assert not driven.effects


def test_when_the_worker_of_such_a_job_is_gone_its_slot_is_freed_at_once() -> None:
    driven = Driven(worker("w1"))
    driven.start()
    driven.send(Cancel(job_id="j1"))
    driven.clear()
    driven.do(driven.session.fleet_news(Gone("w1"), driven.now))
    assert driven.effects == [Release("j1", 0)]
    assert not driven.registry
    driven.tick(LOOSE_S + 0.1)
    assert driven.effects.count(Release("j1", 0)) == 1


def test_while_redis_is_away_it_waits() -> None:
    driven = Driven(worker("w1"))
    driven.start()
    driven.send(Cancel(job_id="j1"))
    driven.session.redis_lost(driven.now)
    driven.clear()
    driven.tick(LOOSE_S + 1, silent=True)
    assert not driven.effects
    driven.do(driven.session.redis_back(driven.now, data_lost=False))
    driven.tick(0.1)
    assert driven.effects == [Release("j1", 0)]


def test_a_deadline_that_ends_a_running_job_leaves_it_loose_too_but_not_its_own_end() -> None:
    driven = Driven(worker("w1"))
    driven.start("j1", deadline=WALL + driven.now + 2)
    driven.start("j2")
    driven.tick(2.1, worker("w1"))
    driven.events(failed(1, "j2"))
    assert [entry.over for entry in driven.registry.values()] == [True]


@pytest.mark.parametrize("holder", ["w1", ""])
def test_a_successor_stops_what_is_over_and_frees_its_slot(holder: str) -> None:
    succession = running()
    succession.old.send(Cancel(job_id="j1"))
    new = succession.successor(worker(), holders={"j1": holder})
    told = [CancelOnWorker("w1", "j1", 0)] if holder else []
    assert [one for one in new.effects if not isinstance(one, Heal)] == [*told, Release("j1", 0)]
    assert not new.registry
    assert not new.session.open_jobs
    new.link()
    assert not acquires(new)


def test_what_was_refused_is_not_written_down() -> None:
    driven = Driven(worker())
    driven.send(job(model="other"))
    assert not driven.registry


def test_after_redis_lost_its_data_everything_open_is_written_down_as_it_is() -> None:
    driven = Driven(worker())
    driven.start()
    driven.events(chunk(1, "a", tokens=(5,)))
    driven.registry.clear()
    driven.do(driven.session.redis_back(driven.now, data_lost=True))
    assert driven.registry["j1"].tokens == (5,)


def test_the_payload_says_what_the_entry_does_not_know_yet() -> None:
    entry = Entry(frame=job(), attempt=0)
    payload = Job(
        job_id="j1",
        attempt=1,
        model="m",
        body={},
        created=0,
        bridge_id="b",
        first_seq=4,
        resume=Resume(token_ids=(9,)),
    )
    made = newest(entry, payload)
    assert (made.attempt, made.next_seq, made.streamed, made.tokens) == (1, 4, True, (9,))
    assert newest(made, payload.model_copy(update={"attempt": 0})) is made


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
