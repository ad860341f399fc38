"""The runtime follows its store: what is there, what comes and goes."""

from __future__ import annotations

import shutil

from tests.fakes.waiting import until
from tests.worker.runtime.world import World


def test_models_are_advertised_with_what_they_are(world):
    world.serve("b")
    rows = {model.id: model for model in world.runtime.models()}
    assert {model_id: row.loaded for model_id, row in rows.items()} == {"a": False, "b": True, "c": False}
    assert rows["b"].context_length == 2048
    assert rows["a"].size_bytes == world.runtime._catalogue.find("a").size_bytes


def test_files_that_come_and_go_are_noticed(store, tiny):
    world = World(store, refresh_seconds=0.02)
    world.serve("a")
    shutil.copyfile(tiny, store / "d.gguf")
    until(lambda: "d" in [model.id for model in world.runtime.models()])
    (store / "a.gguf").unlink()
    until(lambda: world.runtime.loaded() == ())
    until(lambda: len(world.changes) >= 3)
    assert world.opener.opened[0].closed == 1
    world.runtime.close()
