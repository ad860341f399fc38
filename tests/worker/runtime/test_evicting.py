"""Room for a model: idle ones go, those in use stay, and none goes for one that would not load."""

from __future__ import annotations

import json

import pytest

from tasks.errors import WorkerError
from tests.fakes.tiny_llama import write_tiny_llama


def test_idle_models_make_room_the_longest_unused_first(world):
    need = world.runtime._catalogue.find("a").size_bytes
    for name in ("a", "b", "a"):
        world.now += 1
        world.serve(name)
    size = world.runtime._residents.all()[0].size_bytes
    assert size > need
    room = 3 * size + 1000  # half of what is free counts, so one must go
    world.free_now = lambda: room - sum(one.size_bytes for one in world.runtime._residents.all())
    world.opener.gate.set()
    served = world.serve("c")
    assert json.loads(served.finished.data) == {"by": "c"}
    closed = {model.id: model.closed for model in world.opener.opened}
    assert closed == {"a": 0, "b": 1, "c": 0}
    assert world.runtime.loaded() == ("a", "c")


def test_a_model_in_use_is_never_evicted(world):
    busy, held = world.hold("a")
    world.free = world.runtime._residents.all()[0].size_bytes  # of which half counts
    with pytest.raises(WorkerError, match=r"does not fit beside the models in use \(a\)") as caught:
        world.serve("b")
    assert caught.value.code == "out_of_memory"
    busy.release.set()
    assert held.done() is None
    assert busy.closed == 0


def test_nobody_is_evicted_for_a_model_that_would_not_load(world, store, tiny):
    (store / "damaged.gguf").write_bytes(tiny.read_bytes().replace(b"blk.1.ffn_up", b"blk.1.ffn_uq"))
    world.serve("a")
    size = world.runtime._residents.all()[0].size_bytes
    room = 2 * size + 1000
    world.free_now = lambda: room - sum(one.size_bytes for one in world.runtime._residents.all())
    with pytest.raises(WorkerError) as caught:
        world.serve("damaged")
    assert caught.value.code == "model_corrupt"
    assert world.runtime.loaded() == ("a",)
    world.serve("b")
    assert world.runtime.loaded() == ("b",)


def test_a_model_too_large_for_the_machine_is_told_so_even_when_others_are_in_use(world, store):
    write_tiny_llama(store / "huge.gguf", metadata={"llama.attention.key_length": 2**31})
    busy, held = world.hold("a")
    with pytest.raises(WorkerError, match=r"the model needs .* take a smaller quantisation") as caught:
        world.serve("huge")
    assert caught.value.code == "out_of_memory"
    busy.release.set()
    assert held.done() is None


def test_a_model_that_never_fits(world):
    world.free = 0
    with pytest.raises(WorkerError, match="the model needs") as caught:
        world.serve("a")
    assert caught.value.code == "out_of_memory"


def test_unload(world):
    world.serve("a")
    assert world.runtime.unload("a")
    assert not world.runtime.unload("a")
    assert world.opener.opened[0].closed == 1
    assert world.changes == [("a",), ()]
