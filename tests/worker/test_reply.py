"""A job's voice: numbered without holes, one last word."""

from __future__ import annotations

import queue

import pytest

from tasks.contract import Chunk, Claimed, Failed, Finished, Job
from tasks.errors import BadRequestError, JobCancelledError, WorkerError
from worker.reply import JobReply

JOB = Job(job_id="j", attempt=2, model="m", body={}, created=0, bridge_id="b", first_seq=7)


class Direct:
    """Stands for the publisher: runs posts at once, or holds them back until `run`."""

    def __init__(self, *, hold: bool = False) -> None:
        self.events = []
        self.held: queue.SimpleQueue = queue.SimpleQueue()
        self.hold = hold
        self.reply = JobReply(JOB, "w", "Wörker", self.post, lambda _, item: self.events.append(item))

    def post(self, call):
        if self.hold:
            self.held.put(call)
        else:
            call()

    def run(self):
        while not self.held.empty():
            self.held.get()()


def test_seq_continues_where_the_last_attempt_stopped():
    voice = Direct()
    voice.reply.claimed()
    voice.reply.progress("prefill", 0.5)
    voice.reply.chunk("{}", (1,))
    voice.reply.finish()
    assert [(item.seq, item.attempt) for item in voice.events] == [(7, 2), (8, 2), (9, 2), (10, 2)]
    assert isinstance(voice.events[0], Claimed)
    assert voice.events[0].worker_name == "Wörker"


def test_after_the_last_word_nothing_is_said():
    voice = Direct()
    assert voice.reply.finish("{}") is True
    assert voice.reply.closed
    assert voice.reply.fail(WorkerError("late")) is False
    assert voice.reply.chunk("{}") is False
    assert [type(item) for item in voice.events] == [Finished]


def test_what_was_said_before_the_end_still_goes_out():
    voice = Direct(hold=True)
    voice.reply.chunk("{}")
    voice.reply.finish()
    voice.run()
    assert [type(item) for item in voice.events] == [Chunk, Finished]


def test_a_word_that_runs_late_is_dropped():
    voice = Direct(hold=True)
    voice.reply.chunk("{}")
    voice.hold = False
    voice.reply.finish()  # the publisher thread's own call overtakes the queued one
    voice.run()
    assert [type(item) for item in voice.events] == [Finished]


@pytest.mark.parametrize(
    ("error", "retryable"),
    [(WorkerError("x", code="out_of_memory"), True), (BadRequestError("x"), False), (JobCancelledError("x"), False)],
)
def test_only_the_workers_own_fault_is_worth_another_worker(error, retryable):
    voice = Direct()
    voice.reply.fail(error)
    (failed,) = voice.events
    assert isinstance(failed, Failed)
    assert (failed.code, failed.retryable) == (error.code, retryable)


def test_a_last_word_that_is_no_valid_event_becomes_a_failure():
    voice = Direct()
    voice.reply.finish(data=object())  # type: ignore[arg-type]
    assert [type(item) for item in voice.events] == [Failed]
    assert voice.reply.closed


def test_waiting_ends_when_the_publisher_says_so():
    voice = Direct()
    assert voice.reply.wait(0.001) is False
    voice.reply.settle()
    assert voice.reply.wait(0) is True
