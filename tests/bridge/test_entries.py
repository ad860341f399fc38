"""What is written down of a job for a successor, and when it is struck off."""

from __future__ import annotations

import pytest

from bridge.entries import Entry, newest
from bridge.jobs import RETAIN_S
from bridge.protocol import Ack, Cancel
from tasks.contract import Job, Resume
from tests.bridge.builders import Driven, chunk, finished, job, progress, worker


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


@pytest.mark.parametrize("how", ["ack", "welcome", "nobody asked again"])
def test_what_the_api_has_is_written_down_no_longer(how: str) -> None:
    old = Driven(worker())
    old.start()
    old.events(finished(1))
    assert old.registry
    if how == "ack":
        old.send(Ack(job_id="j1", seq=1))
    elif how == "welcome":
        old.link()
    else:
        old.tick(RETAIN_S + 0.1, worker())
    assert not old.registry
