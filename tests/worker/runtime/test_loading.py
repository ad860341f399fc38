"""One load for all who wait, given up when nobody does; closing ends it."""

from __future__ import annotations

import json

import pytest

from tasks.errors import JobCancelledError, NotFoundError, UnavailableError
from tests.fakes.waiting import until
from tests.worker.runtime.world import loading
from worker.backends.base import CancelToken
from worker.capacity import Plan


def test_the_first_request_loads_the_model(world):
    reply = world.serve()
    assert json.loads(reply.finished.data) == {"by": "a"}
    assert loading(reply)[0] == 0.0
    assert world.changes == [("a",)]
    assert world.runtime.loaded() == ("a",)


def test_only_the_request_that_waited_is_a_cold_start(world):
    cold, warm = world.serve().finished.timing, world.serve().finished.timing
    assert cold.cold_start is True
    assert cold.model_load_ms > 0
    assert (warm.cold_start, warm.model_load_ms) == (False, 0.0)
    assert world.opener.calls == ["a"]


def test_all_wait_for_one_load_and_hear_how_far_it_is(world):
    world.opener.gate.clear()
    started = [world.begin() for _ in range(5)]
    until(lambda: all(0.5 in loading(reply) for reply, _ in started[:1]))
    until(lambda: all(loading(reply) for reply, _ in started))
    world.opener.gate.set()
    assert [served.done() for _, served in started] == [None] * 5
    assert world.opener.calls == ["a"]


def test_two_models_load_one_after_the_other(world):
    started = [world.begin(name)[1] for name in ("a", "b", "c")]
    assert [served.done() for served in started] == [None] * 3
    assert sorted(world.opener.calls) == ["a", "b", "c"]
    assert world.opener.most_at_once == 1


def test_preload(world):
    world.runtime.preload(("a", "b"))
    assert world.runtime.loaded() == ("a", "b")
    assert world.changes == [("a",), ("a", "b")]


def test_preload_tries_all_and_tells_the_first_failure(world):
    with pytest.raises(NotFoundError, match="nope"):
        world.runtime.preload(("nope", "b"))
    assert world.runtime.loaded() == ("b",)


def test_the_engine_gets_no_more_slots_than_the_process(world):
    world.serve()
    assert world.opener.opened[0].plan == Plan(4, 2048)
    assert world.runtime.stats()["a"].slots_total == 4


# ------------------------------------------------------------ cancelling


def test_a_cancel_while_loading_ends_only_that_request(world):
    world.opener.gate.clear()
    token = CancelToken()
    _, leaving = world.begin(cancel=token)
    reply, staying = world.begin()
    until(lambda: loading(reply))
    token.cancel()
    assert isinstance(leaving.done(), JobCancelledError)
    world.opener.gate.set()
    assert staying.done() is None
    assert world.opener.calls == ["a"]


def test_a_load_that_nobody_waits_for_is_given_up_and_begun_again_for_the_next(world):
    world.opener.gate.clear()
    token = CancelToken()
    reply, served = world.begin(cancel=token)
    until(lambda: loading(reply))
    token.cancel()
    assert isinstance(served.done(), JobCancelledError)
    until(lambda: not world.runtime._loads)
    assert world.runtime.loaded() == ()
    world.opener.gate.set()
    assert json.loads(world.serve().finished.data) == {"by": "a"}


# --------------------------------------------------------------- closing


def test_close_stops_loads_and_frees_everything(world):
    world.serve("a")
    world.opener.gate.clear()
    reply, served = world.begin("b")
    until(lambda: loading(reply))
    world.runtime.close()
    assert isinstance(served.done(), UnavailableError)
    assert world.opener.opened[0].closed == 1
    world.runtime.close()
    with pytest.raises(UnavailableError):
        world.serve("a")
