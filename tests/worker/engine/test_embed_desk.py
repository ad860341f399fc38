"""Requests shared by lanes: who takes what and when, and that nothing follows a request's last output."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.errors import JobCancelledError, UnavailableError, WorkerError
from worker.engine.embed_batch import BatchQueue, Pending
from worker.engine.embed_desk import Desk, Turn
from worker.engine.embedder_api import EmbedOutput, EmbedRequest

MOST = 100


class Lanes:
    """A desk and what it told; each `take` is one of a lane of its own."""

    def __init__(self) -> None:
        self.desk = Desk(BatchQueue(tokens=MOST, inputs=16))
        self.outputs: list[EmbedOutput] = []

    def add(self, name: str, *lengths: int) -> Pending:
        inputs = tuple((1,) * length for length in lengths)
        pending = Pending(EmbedRequest(name, inputs), self.outputs.append, width=1, at=0.0)
        self.desk.add(pending)
        return pending

    def take(self, longest: int = 1000) -> Turn:
        turn = self.try_take(longest)
        assert turn is not None, "there is nothing for this lane"
        return turn

    def try_take(self, longest: int = 1000) -> Turn | None:
        """None where a lane would wait."""
        waits = False

        def rest() -> None:
            nonlocal waits
            waits = self.desk._closed = True

        turn = self.desk.take(longest, rest)
        if waits:
            self.desk._closed = False
        return turn

    def finish(self, turn: Turn) -> None:
        self.desk.fail_cancelled(turn.cancelled)
        self.desk.store(turn.batch, np.ones((len(turn.batch), 1), dtype=np.float32))
        self.desk.tell(item.pending for item in turn.batch)
        self.desk.done(turn)


@pytest.fixture
def lanes() -> Lanes:
    return Lanes()


def names(turn: Turn) -> list[str]:
    return [item.pending.request.request_id for item in turn.batch]


# --------------------------------------------------------------------- who takes what


def test_little_waits_for_more_while_a_batch_runs(lanes):
    lanes.add("many", *[10] * 10)
    running = lanes.take()
    lanes.add("little", 5)
    assert lanes.try_take() is None
    lanes.add("more", 60)
    assert names(lanes.take()) == ["little", "more"]
    lanes.finish(running)


def test_little_waits_no_longer_than_the_batches_that_run(lanes):
    lanes.add("many", *[10] * 20)
    one, other = lanes.take(), lanes.take()
    lanes.add("little", 5)
    lanes.finish(one)
    assert lanes.try_take() is None
    lanes.finish(other)
    assert names(lanes.take()) == ["little"]


def test_little_does_not_wait_for_an_input_that_may_take_minutes(lanes):
    lanes.add("book", 900)
    reading = lanes.take()
    lanes.add("little", 5)
    assert names(lanes.take(longest=MOST)) == ["little"]
    lanes.finish(reading)


def test_a_long_input_is_left_to_a_lane_that_takes_it(lanes):
    lanes.add("book", 900)
    assert lanes.try_take(longest=MOST) is None
    lanes.add("little", 5)
    assert names(lanes.take(longest=MOST)) == ["little"]
    assert names(lanes.take()) == ["book"]


def test_alone_is_who_had_no_company_lately(lanes):
    lanes.add("a", 5)
    turn = lanes.take()
    assert turn.alone
    lanes.add("b", 70)
    assert not lanes.take().alone
    lanes.finish(turn)


# --------------------------------------------------------------------- ends


def test_a_request_that_is_cancelled_while_two_lanes_run_it_ends_once(lanes):
    lanes.add("a", *[60] * 3)
    one, other = lanes.take(), lanes.take()
    lanes.desk.cancel("a")
    lanes.desk.cancel("a")
    lanes.finish(one)
    lanes.finish(lanes.take())  # nothing but the cancellation
    lanes.finish(other)
    assert [type(output.error) for output in lanes.outputs] == [type(None), JobCancelledError]
    assert lanes.desk.counts() == (0, 0)
    assert lanes.try_take() is None


def test_a_name_is_free_again_once_its_cancelled_request_has_ended(lanes):
    lanes.add("a", *[60] * 2)
    running = lanes.take()
    lanes.desk.cancel("a")
    lanes.finish(lanes.take())
    lanes.add("a", 70)
    lanes.finish(running)  # of the one before
    assert len(lanes.outputs) == 1
    lanes.finish(lanes.take())
    assert lanes.outputs[-1].vectors is not None


def test_a_request_that_is_through_when_its_cancellation_comes_is_not_cancelled(lanes):
    lanes.add("a", 5)
    running = lanes.take()
    lanes.desk.cancel("a")
    lanes.finish(running)
    lanes.finish(lanes.take())
    [output] = lanes.outputs
    assert output.vectors is not None


def test_close_lets_batches_end_and_gives_out_no_more(lanes):
    lanes.add("a", 60)
    lanes.add("b", 60)
    running = lanes.take()
    lanes.desk.cancel("b")
    lanes.desk.close()
    assert lanes.desk.take(1000, lambda: None) is None
    lanes.finish(running)
    lanes.desk.fail_all(UnavailableError("unloaded", code="draining"))
    assert [(output.request_id, output.error is None) for output in lanes.outputs] == [("a", True), ("b", False)]
    with pytest.raises(UnavailableError):
        lanes.add("c", 1)


def test_what_failed_is_neither_run_nor_told_again(lanes):
    pending = lanes.add("a", *[60] * 3)
    running = lanes.take()
    lanes.desk.fail(pending, WorkerError("no"))
    lanes.desk.fail(pending, WorkerError("twice"))
    lanes.finish(running)
    assert [output.error.message for output in lanes.outputs] == ["no"]
    assert lanes.try_take() is None
