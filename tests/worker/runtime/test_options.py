"""A model's own options and adapters reach its engine."""

from __future__ import annotations

import json

import pytest

from tasks.errors import WorkerError
from tests.fakes.tiny_lora import write_tiny_lora
from tests.worker.runtime.world import World
from worker.capacity import Plan
from worker.engine.config import Adapter


def test_a_models_own_options_reach_its_engine(store):
    options = {"*": {"n_batch": 64}, "a": {"slots": 2, "context_length": 300, "cache_type_k": "q8_0", "threads": 7}}
    world = World(store, model_options=options, n_batch=32, threads=1)
    world.serve("a")
    world.serve("b")
    assert world.opener.opened[0].plan == Plan(2, 300)
    assert world.opener.opened[1].plan == Plan(4, 2048)
    a, b = world.opener.options["a"], world.opener.options["b"]
    assert (a.n_batch, a.threads, a.kv_type, a.kv_type_v) == (64, 7, "q8_0", "f16")
    assert (b.n_batch, b.threads, b.kv_type) == (64, 1, "f16")
    world.runtime.close()


def test_adapters_of_a_sidecar_and_of_the_options(store):
    (store / "loras").mkdir()
    lora = write_tiny_lora(store / "loras" / "l.gguf")
    for name in ("a", "b"):
        (store / f"{name}.gguf.meta.json").write_text(json.dumps({"lora": [{"path": "loras/l.gguf", "scale": 0.5}]}))
    world = World(store, model_options={"b": {"lora": []}})
    world.serve("a")
    world.serve("b")
    assert world.opener.options["a"].adapters == (Adapter(lora, 0.5),)
    assert world.opener.options["b"].adapters == ()
    world.runtime.close()


@pytest.mark.parametrize(
    ("path", "words"), [("../outside.gguf", "outside the model store"), ("gone.gguf", "is not in")]
)
def test_an_adapter_that_cannot_be_had(store, path, words):
    (store / "a.gguf.meta.json").write_text(json.dumps({"lora": [{"path": path}]}))
    world = World(store)
    with pytest.raises(WorkerError, match=words) as caught:
        world.serve("a")
    assert caught.value.code == "bad_adapter"
    assert json.loads(world.serve("b").finished.data) == {"by": "b"}
    world.runtime.close()
