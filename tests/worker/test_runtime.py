"""The runtime: one load for all who wait, failures that cost nobody else anything, eviction, and the real thing."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.contract import Job, Progress, Usage
from tasks.errors import (
    BadRequestError,
    JobCancelledError,
    NotFoundError,
    PendraError,
    UnavailableError,
    WorkerError,
)
from tasks.settings import load_settings
from tests.fakes.backend_parts import DirectPublisher, RecordingReply, Served, chat
from tests.fakes.tiny_llama import write_tiny_llama
from tests.fakes.tiny_lora import write_tiny_lora
from tests.fakes.waiting import until
from worker.backends.base import CancelToken, Reply
from worker.capacity import Plan
from worker.engine.api import EngineStats
from worker.engine.config import Adapter
from worker.options import Options
from worker.runtime import Runtime
from worker.store.catalogue import Entry

GB = 1024**3


class FakeModel:
    """Answers at once, or holds jobs until `release`."""

    def __init__(self, entry: Entry, plan: Plan) -> None:
        self.id = entry.id
        self.plan = plan
        self.context_length = plan.ctx_per_slot
        self.holding = False
        self.release = threading.Event()
        self.closed = 0

    def serve(self, job: Job, reply: Reply, cancel: CancelToken) -> None:
        if self.holding:
            assert self.release.wait(10)
        reply.finish(json.dumps({"by": self.id}), usage=Usage(completion_tokens=1))

    def stats(self) -> EngineStats:
        return EngineStats(self.plan.slots, 0, 0, 0, 0, 0, 0, 0, 0)

    def close(self) -> None:
        self.closed += 1


class FakeOpener:
    """Loads when the test says so: every load waits for `gate`, which is open unless closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.opened: list[FakeModel] = []
        self.running = 0
        self.most_at_once = 0
        self.calls: list[str] = []
        self.options: dict[str, Options] = {}
        self.error: Exception | None = None

    def __call__(
        self, entry: Entry, plan: Plan, options: Options, publisher: object, progress: Callable
    ) -> FakeModel:
        self.options[entry.id] = options
        self.calls.append(entry.id)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            return self._open(entry, plan, progress)
        finally:
            self.running -= 1

    def _open(self, entry: Entry, plan: Plan, progress: Callable) -> FakeModel:
        while not self.gate.wait(0.002):
            if not progress(0.5):
                raise JobCancelledError("stopped")
        if self.error is not None:
            raise self.error
        self.opened.append(FakeModel(entry, plan))
        return self.opened[-1]


class World:
    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.settings = load_settings(home=folder, models_dir=folder, worker_id="w", device="cpu0", **settings)
        self.opener = FakeOpener()
        self.changes: list[tuple[str, ...]] = []
        self.free = 64 * GB
        self.free_now = lambda: self.free
        self.now = 1000.0
        self.runtime = Runtime(
            self.settings,
            4,
            DirectPublisher(),
            self._changed,
            opener=self.opener,
            free=lambda _options: self.free_now(),
            clock=lambda: self.now,
        )

    def _changed(self) -> None:
        self.changes.append(self.runtime.loaded())

    def begin(
        self, model: str = "a", cancel: CancelToken | None = None, **fields: object
    ) -> tuple[RecordingReply, Served]:
        job = chat(model=model, stream=False, **fields)
        reply = RecordingReply(job)
        return reply, Served(lambda: self.runtime.serve(job, reply, cancel or CancelToken()))

    def serve(self, model: str = "a", **fields: object) -> RecordingReply:
        reply, served = self.begin(model, **fields)
        error = served.done()
        if error is not None:
            raise error
        return reply


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def store(tiny: Path, tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        shutil.copyfile(tiny, tmp_path / f"{name}.gguf")
    return tmp_path


@pytest.fixture
def world(store: Path) -> Iterator[World]:
    made = World(store)
    yield made
    made.opener.gate.set()
    made.runtime.close()


def loading(reply: RecordingReply) -> list[float]:
    return [event.fraction for event in reply.events if isinstance(event, Progress) and event.stage == "loading"]


# ---------------------------------------------------------------------- loading


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


# ---------------------------------------------------------------------- refusing


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


# --------------------------------------------------------------------- cancelling


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


# ----------------------------------------------------------------------- evicting


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
    world.serve("a")
    busy = world.opener.opened[0]
    busy.holding = True
    _, held = world.begin("a")
    until(lambda: world.runtime._residents.snapshot()[0].busy)
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
    world.serve("a")
    busy = world.opener.opened[0]
    busy.holding = True
    _, held = world.begin("a")
    until(lambda: world.runtime._residents.snapshot()[0].busy)
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


# --------------------------------------------------------------------- keeping


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
    keeping.serve("a")
    busy = keeping.opener.opened[0]
    busy.holding = True
    _, held = keeping.begin("a")
    until(lambda: keeping.runtime._residents.snapshot()[0].busy)
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


# --------------------------------------------------------------------- options


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


# -------------------------------------------------------------------- the store


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


# ------------------------------------------------------------------------ closing


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


# ------------------------------------------------------------------- a real model


def test_a_real_model_from_a_cold_store(smollm2, tmp_path):
    (tmp_path / smollm2.name).symlink_to(smollm2)
    (tmp_path / f"{smollm2.name}.meta.json").write_text(json.dumps({"id": "smollm2:135m", "purpose": "chat"}))
    settings = load_settings(
        home=tmp_path, models_dir=tmp_path, worker_id="w", max_concurrent=2, context_length=512, threads=2
    )
    runtime = Runtime(settings, 2, DirectPublisher(), lambda: None)
    ask = {"messages": [{"role": "user", "content": "Name the capital of France in one short sentence."}]}
    job = chat(model="smollm2:135m", stream=False, temperature=0, max_tokens=24, cache_prompt=False, **ask)
    reply = RecordingReply(job)
    began = time.monotonic()
    runtime.serve(job, reply, CancelToken())
    took_ms = (time.monotonic() - began) * 1000
    assert "Paris" in json.loads(reply.finished.data)["choices"][0]["message"]["content"]
    timing = reply.finished.timing
    assert timing.cold_start
    assert 0 < timing.model_load_ms < took_ms
    assert timing.tokens_per_second > 0
    assert runtime.models()[0].model_dump(include={"id", "loaded", "context_length", "parameter_size"}) == {
        "id": "smollm2:135m",
        "loaded": True,
        "context_length": 512,
        "parameter_size": "135M",
    }
    assert runtime.stats()["smollm2:135m"].slots_total == 2
    runtime.close()
    assert runtime.loaded() == ()
    with pytest.raises(PendraError):
        runtime.serve(job, RecordingReply(job), CancelToken())


class LeavingReply(RecordingReply):
    """Cancels as soon as the load has got somewhere."""

    def __init__(self, job: Job, cancel: CancelToken) -> None:
        super().__init__(job)
        self._cancel = cancel

    def progress(self, stage: str, fraction: float = 0.0) -> bool:
        told = super().progress(stage, fraction)
        if fraction > 0:
            self._cancel.cancel()
        return told


def test_a_real_load_ends_with_the_request_that_wanted_it(smollm2, tmp_path):
    (tmp_path / smollm2.name).symlink_to(smollm2)
    model_id = smollm2.stem.lower()
    settings = load_settings(home=tmp_path, models_dir=tmp_path, worker_id="w", max_concurrent=1, context_length=512)
    runtime = Runtime(settings, 1, DirectPublisher(), lambda: None)
    job, cancel = chat(model=model_id, stream=False, max_tokens=1), CancelToken()
    reply = LeavingReply(job, cancel)
    with pytest.raises(JobCancelledError):
        runtime.serve(job, reply, cancel)
    until(lambda: not runtime._loads)
    assert runtime.loaded() == ()
    told = loading(reply)
    assert told[0] == 0
    assert 0 < told[-1] < 0.5
    assert len(told) == 2  # nothing was loaded, and nothing told, after the cancel
    again = RecordingReply(job)
    runtime.serve(job, again, CancelToken())
    assert len(loading(again)) > 5
    assert again.finished.timing.cold_start
    runtime.close()
