"""The keeper's thread: it sleeps until the next model's time, wakes when poked, and survives a failing unload."""

from __future__ import annotations

import threading

import pytest

from tests.fakes.waiting import until
from worker.keeper import Keeper, asked_keep_alive
from worker.residents import Loaded, Residents
from worker.store.catalogue import Entry


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class World:
    def __init__(self, tmp_path) -> None:
        self.clock = Clock()
        self.residents = Residents(self.clock)
        self.gone: list[str] = []
        self.fail = False
        self.keeper = Keeper(self.residents, self._unload)
        self._path = tmp_path

    def _unload(self, loaded: Loaded) -> None:
        self.gone.append(loaded.entry.id)
        if self.fail:
            self.fail = False
            raise RuntimeError("the model does not close")

    def use(self, name: str, keep_s: float) -> None:
        self.residents.add(Loaded(Entry(name, self._path / name, 1), model=None, size_bytes=1, keep_s=keep_s))
        self.residents.give(self.residents.take(name))


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.keeper.stop()


def test_it_looks_again_when_poked(world):
    world.keeper.start()
    world.use("a", 0)
    world.keeper.poke()
    until(lambda: world.gone == ["a"])


def test_a_model_that_does_not_close_does_not_keep_the_others(world):
    world.fail = True
    world.use("a", 0)
    world.keeper.start()
    until(lambda: world.gone == ["a"])
    world.use("b", 0)
    world.keeper.poke()
    until(lambda: world.gone == ["a", "b"])


def test_one_taken_between_looking_and_unloading_stays(world):
    world.use("a", 5)
    world.clock.now = 5
    taken = world.residents.take("a")
    assert world.residents.remove_ended("a") is None
    world.residents.give(taken)
    assert world.residents.remove_ended("a") is None  # its time began anew
    world.clock.now = 10
    assert world.residents.remove_ended("a") is taken
    assert world.residents.remove_ended("a") is None


def test_stopping_one_that_was_not_started_or_twice(world):
    world.keeper.stop()
    world.keeper.stop()
    assert not any(thread.name == "keeper" and thread.is_alive() for thread in threading.enumerate())


@pytest.mark.parametrize(("body", "seconds"), [({}, None), ({"keep_alive": None}, None), ({"keep_alive": "5m"}, 300)])
def test_what_a_request_asks_for(body, seconds):
    assert asked_keep_alive(body) == seconds
