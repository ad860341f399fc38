"""What cannot be served says why, and costs nobody else anything."""

from __future__ import annotations

import json
import shutil

import pytest

from tasks.errors import BadRequestError, NotFoundError, WorkerError
from tests.worker.runtime.world import World


def test_an_unknown_model(world):
    with pytest.raises(NotFoundError, match="the model nope is not on this worker") as caught:
        world.serve("nope")
    assert caught.value.code == "model_not_found"


def test_a_broken_model_fails_with_its_reason(world, store):
    (store / "broken.gguf").write_bytes(b"junk")
    for _ in range(2):
        with pytest.raises(WorkerError, match=r"broken\.gguf is not a usable GGUF file") as caught:
            world.serve("broken")
        assert caught.value.code == "model_corrupt"
    assert world.opener.calls == []


def test_what_we_cannot_serve_is_not_advertised(world, store, tiny):
    shutil.copyfile(tiny, store / "e.gguf")
    (store / "e.gguf.meta.json").write_text(json.dumps({"id": "draw:1m", "purpose": "image"}))
    with pytest.raises(BadRequestError, match="a model for image"):
        world.serve("draw:1m")
    other = World(store)
    assert [model.id for model in other.runtime.models()] == ["a", "b", "c"]
    other.runtime.close()


def test_the_models_setting_chooses(store):
    world = World(store, models=("b",))
    assert [model.id for model in world.runtime.models()] == ["b"]
    with pytest.raises(NotFoundError):
        world.serve("a")
    world.runtime.close()


@pytest.mark.parametrize(
    ("error", "code"),
    [(WorkerError("bad file", code="model_corrupt"), "model_corrupt"), (RuntimeError("secret"), "model_load_failed")],
)
def test_a_failed_load_costs_nobody_else_anything(world, error, code):
    world.serve("a")
    world.opener.error = error
    with pytest.raises(WorkerError) as caught:
        world.serve("b")
    assert caught.value.code == code
    assert "secret" not in caught.value.message
    assert json.loads(world.serve("a").finished.data) == {"by": "a"}
    world.opener.error = None
    assert json.loads(world.serve("b").finished.data) == {"by": "b"}
