"""Those who wait for a load hear of it, not too often, and can leave."""

from __future__ import annotations

import traceback

import pytest

from tasks.contract import Progress, Timing
from tasks.errors import BusyError, JobCancelledError, WorkerError
from tests.fakes.backend_parts import RecordingReply, Served, chat
from tests.fakes.waiting import until
from worker.backends.base import CancelToken
from worker.loading import Load, TimedReply, again


def waiting(load: Load, cancel: CancelToken | None = None) -> tuple[RecordingReply, Served]:
    reply = RecordingReply(chat())
    served = Served(lambda: load.join(reply, cancel or CancelToken()))
    until(lambda: reply.events)
    return reply, served


def test_progress_is_told_in_steps_of_a_twentieth():
    load = Load()
    reply, served = waiting(load)
    for percent in range(101):
        assert load.progress(percent / 100)
    load.finish()
    assert served.done() is None
    told = [event.fraction for event in reply.events if isinstance(event, Progress)]
    assert 10 <= len(told) <= 22
    assert told == sorted(told)


def test_who_comes_late_hears_where_it_stands():
    load = Load()
    load.progress(0.7)
    reply, served = waiting(load)
    assert reply.events[0].fraction == 0.7
    load.finish()
    assert served.done() is None


def test_every_waiter_gets_an_error_of_its_own():
    load = Load()
    served = [waiting(load)[1] for _ in range(2)]
    load.finish(WorkerError("bad", code="model_corrupt"))
    errors = [one.done() for one in served]
    assert [error.code for error in errors] == ["model_corrupt"] * 2
    assert errors[0] is not errors[1]


def test_a_load_goes_on_until_the_last_waiter_left():
    load = Load()
    assert load.progress(0.1)  # nobody came yet
    first, second = CancelToken(), CancelToken()
    served = [waiting(load, token)[1] for token in (first, second)]
    first.cancel()
    assert isinstance(served[0].done(), JobCancelledError)
    assert load.progress(0.2)
    second.cancel()
    assert isinstance(served[1].done(), JobCancelledError)
    assert not load.progress(0.3)


def test_a_cancel_stops_the_load_at_the_very_next_sign():
    """Before the one who waited has noticed it himself."""
    load, cancel = Load(), CancelToken()
    _, served = waiting(load, cancel)
    assert load.progress(0.2)
    cancel.cancel()
    assert not load.progress(0.2)
    assert isinstance(served.done(), JobCancelledError)


def test_a_stopped_load():
    load = Load()
    load.stop()
    assert not load.progress(0.5)


def test_a_load_given_up_is_no_error_to_those_who_stayed():
    load = Load()
    _, served = waiting(load)
    load.finish(JobCancelledError("nobody waits"))
    assert served.done() is None


def test_again_is_the_same_error_without_its_history():
    error = BusyError("full", param="model", retry_after=3)
    with pytest.raises(BusyError) as caught:
        raise error
    copy = again(caught.value)
    assert (type(copy), copy.message, copy.code, copy.param, copy.retry_after) == (
        BusyError,
        "full",
        "queue_full",
        "model",
        3,
    )
    assert traceback.extract_tb(copy.__traceback__) == []


@pytest.mark.parametrize(("waited", "cold"), [(12.5, True), (0.0, False)])
def test_the_timing_says_how_long_the_load_took(waited, cold):
    reply = RecordingReply(chat())
    TimedReply(reply, waited).finish(timing=Timing(ttft_ms=3.0))
    assert reply.finished.timing == Timing(ttft_ms=3.0, model_load_ms=waited, cold_start=cold)
