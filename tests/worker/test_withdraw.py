"""Taking a model off a worker before its file goes: refused while jobs use it, or after them; memory is free then."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks import keys
from tasks.contract import WorkerInfo
from tasks.errors import NotFoundError, UnavailableError
from tasks.redis_client import connect
from tasks.settings import load_settings
from tests.fakes.backend_parts import DirectPublisher, RecordingReply, chat
from tests.fakes.tiny_llama import write_tiny_llama
from tests.fakes.waiting import until
from tests.worker.runtime.world import World
from worker import unloading
from worker.backends.base import CancelToken
from worker.control import Restore, Unload, parse
from worker.runtime import Runtime
from worker.store.errors import ModelInUseError
from worker.unloading import Unloading

MB = 1 << 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    write_tiny_llama(tmp_path / "a.gguf")
    made = World(tmp_path, refresh_seconds=0.1)
    yield made
    for model in made.opener.opened:
        model.release.set()
    made.runtime.close()


def test_an_idle_model_is_closed_and_not_served_again(world: World):
    world.serve("a")
    assert world.runtime.withdraw("a", force=False) == 0
    assert world.opener.opened[0].closed == 1
    assert world.runtime.models() == ()
    with pytest.raises(NotFoundError):
        world.serve("a")
    world.runtime.restore("a")
    world.serve("a")


def test_a_model_in_use_is_refused_and_goes_on(world: World):
    world.serve("a")
    busy = world.opener.opened[0]
    busy.holding = True
    _, held = world.begin("a")
    until(lambda: world.runtime._residents.snapshot()[0].busy)
    assert world.runtime.withdraw("a", force=False) == 1
    assert [model.id for model in world.runtime.models()] == ["a"]
    busy.release.set()
    assert held.done() is None


def test_force_waits_for_the_jobs_and_takes_no_new_ones(world: World):
    world.serve("a")
    busy = world.opener.opened[0]
    busy.holding = True
    _, held = world.begin("a")
    until(lambda: world.runtime._residents.snapshot()[0].busy)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(world.runtime.withdraw("a", force=True)))
    thread.start()
    until(lambda: world.runtime.models() == ())
    assert not answers
    busy.release.set()
    thread.join(30)
    assert answers == [0]
    assert held.done() is None
    assert busy.closed == 1


def test_a_model_whose_file_is_gone_may_come_back(world: World):
    world.runtime.withdraw("a", force=False)
    (world.folder / "a.gguf").unlink()
    until(lambda: not world.runtime._withdrawn)
    write_tiny_llama(world.folder / "a.gguf")
    until(lambda: [model.id for model in world.runtime.models()] == ["a"])


def test_the_commands():
    unload = {"op": "unload", "model": "m", "force": True, "answers": "k"}
    assert parse(json.dumps(unload).encode()) == Unload("m", force=True, answers="k")
    assert parse(b'{"op": "restore", "model": "m"}') == Restore("m")
    assert parse(b'{"op": "unload", "model": "m"}') is None


# ------------------------------------------------------------------- the agent's side


class Worker:
    """A worker as the agent sees it: a heartbeat, and an answer to what it is told."""

    def __init__(self, url: str, worker_id: str, node: str = "n", busy: int | None = 0) -> None:
        self.client = connect(url)
        self.heard: list[dict[str, object]] = []
        self.info = WorkerInfo(
            worker_id=worker_id, epoch="e", name="w", node=node, pid=1, version="0", device="cpu0", slots_total=1
        )
        self.client.hset(keys.WORKERS, worker_id, self.info.model_dump_json())
        self.client.set(keys.worker_lease(worker_id), "e")
        self._busy = busy
        self._pubsub = self.client.pubsub()
        self._pubsub.subscribe(**{keys.control(worker_id): self._told})
        self._thread = self._pubsub.run_in_thread(sleep_time=0.01, daemon=True)

    def _told(self, message: dict[str, bytes]) -> None:
        command = json.loads(message["data"])
        self.heard.append(command)
        if command["op"] == "unload" and self._busy is not None:
            answer = {"worker_id": self.info.worker_id, "ok": not self._busy, "busy": self._busy}
            self.client.rpush(command["answers"], json.dumps(answer))

    def close(self) -> None:
        self._thread.stop()
        self._thread.join(30)
        self._pubsub.close()
        self.client.close()


@pytest.fixture
def start(redis_url: str) -> Iterator[object]:
    made: list[Worker] = []

    def new(worker_id: str, **more: object) -> Worker:
        made.append(Worker(redis_url, worker_id, **more))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for worker in made:
        worker.close()


@pytest.fixture
def agent(redis_url: str) -> Iterator[Unloading]:
    client = connect(redis_url)
    yield Unloading(client, "n")
    client.close()


def test_all_workers_of_the_host_are_asked(start, agent: Unloading):
    one, two, other = start("one"), start("two"), start("far", node="other")
    agent.unload("m", force=False, request_id="r")
    assert [command["op"] for worker in (one, two) for command in worker.heard] == ["unload", "unload"]
    assert other.heard == []


def test_one_that_uses_it_stops_all(start, agent: Unloading):
    one, two = start("one"), start("two", busy=3)
    with pytest.raises(ModelInUseError, match="in use by 3 jobs on two"):
        agent.unload("m", force=False, request_id="r")
    until(lambda: [command["op"] for command in one.heard] == ["unload", "restore"])
    until(lambda: [command["op"] for command in two.heard] == ["unload", "restore"])


def test_one_that_does_not_answer_is_named(start, agent: Unloading, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unloading, "ANSWER_S", 0.2)
    monkeypatch.setattr(unloading, "_LOOK_S", 0.1)
    start("deaf", busy=None)
    with pytest.raises(UnavailableError, match="deaf did not unload m in time"):
        agent.unload("m", force=False, request_id="r")


def test_one_that_dies_meanwhile_holds_nothing(start, agent: Unloading, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unloading, "_LOOK_S", 0.1)
    dying = start("dying", busy=None)
    threading.Timer(0.2, lambda: dying.client.delete(keys.worker_lease("dying"))).start()
    agent.unload("m", force=False, request_id="r")


# ------------------------------------------------------------------- a real model


def test_the_memory_of_a_real_model_is_free_afterwards(smollm2: Path, tmp_path: Path):
    (tmp_path / smollm2.name).symlink_to(smollm2)
    model_id = smollm2.stem.lower()
    settings = load_settings(
        home=tmp_path, models_dir=tmp_path, worker_id="w", max_concurrent=1, context_length=512, threads=1
    )
    runtime = Runtime(settings, 1, DirectPublisher(), lambda: None)
    job = chat(model=model_id, stream=False, max_tokens=1, messages=[{"role": "user", "content": "hi"}])
    try:
        before = psutil.Process().memory_info().rss
        runtime.serve(job, RecordingReply(job), CancelToken())
        held = psutil.Process().memory_info().rss - before
        assert held > 60 * MB
        assert runtime.withdraw(model_id, force=False) == 0
        left = psutil.Process().memory_info().rss - before
        assert left < held / 2
    finally:
        runtime.close()
