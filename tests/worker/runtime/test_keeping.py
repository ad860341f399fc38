"""How long an idle model stays in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import BadRequestError
from tests.fakes.waiting import until
from tests.worker.runtime.world import World


@pytest.fixture
def keeping(store: Path) -> Iterator[World]:
    made = World(store, keep_alive=60, model_options={"b": {"keep_alive": "5m"}, "c": {"keep_alive": -1}})
    made.runtime.keeper.stop()  # the test sweeps
    yield made
    made.runtime.close()


def test_an_idle_model_is_unloaded_after_its_time(keeping):
    for name in ("a", "b", "c"):
        keeping.serve(name)
    keeping.now += 59
    assert keeping.runtime.keeper.sweep() == 1
    assert keeping.runtime.loaded() == ("a", "b", "c")
    keeping.now += 1
    assert keeping.runtime.keeper.sweep() == 240
    assert keeping.runtime.loaded() == ("b", "c")
    assert keeping.changes[-1] == ("b", "c")
    keeping.now += 240
    assert keeping.runtime.keeper.sweep() is None
    assert keeping.runtime.loaded() == ("c",)
    assert {model.id: model.closed for model in keeping.opener.opened} == {"a": 1, "b": 1, "c": 0}


def test_its_time_begins_anew_with_every_request(keeping):
    for _ in range(5):
        keeping.serve("a")
        keeping.now += 50
        keeping.runtime.keeper.sweep()
    assert keeping.opener.calls == ["a"]
    keeping.now += 10
    keeping.runtime.keeper.sweep()
    assert json.loads(keeping.serve("a").finished.data) == {"by": "a"}
    assert keeping.opener.calls == ["a", "a"]


def test_a_model_in_use_is_kept(keeping):
    busy, held = keeping.hold("a")
    keeping.now += 1000
    assert keeping.runtime.keeper.sweep() is None
    busy.release.set()
    assert held.done() is None
    assert keeping.runtime.keeper.sweep() == 60


@pytest.mark.parametrize(("asked", "left"), [("2m", 120), (10, 10), (-1, None), (None, 60)])
def test_a_request_says_how_long_its_model_stays(keeping, asked, left):
    keeping.serve("a", keep_alive=asked)
    assert keeping.runtime.keeper.sweep() == left
    keeping.serve("a")
    assert keeping.runtime.keeper.sweep() == 60


def test_keep_alive_0_unloads_at_once_without_being_told(store):
    world = World(store)
    world.serve("a", keep_alive=0)
    until(lambda: world.runtime.loaded() == ())
    until(lambda: world.changes[-1] == ())
    world.serve("a")
    assert world.runtime.loaded() == ("a",)
    world.runtime.close()


def test_a_bad_keep_alive_is_refused_before_anything_loads(keeping):
    with pytest.raises(BadRequestError, match="allowed: seconds, or a duration") as caught:
        keeping.serve("a", keep_alive="for a while")
    assert caught.value.param == "keep_alive"
    assert keeping.opener.calls == []
