"""Installs that the API asked for: to which hosts, one progress, one end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.effects import DropInstall, NoteInstall, Send, StartTask, StopTask
from bridge.entries import InstallEntry
from bridge.installs import Installs, task_of
from bridge.ledger import Ledger
from bridge.protocol import Install, Uninstall
from tasks.contract import InstallProgress
from tasks.errors import PendraError
from tests.bridge.builders import worker


class Asked:
    def __init__(self, *workers: Any) -> None:
        self.ledger = Ledger("b1")
        self.ledger.flow.up()
        for info in workers:
            self.ledger.fleet.upsert(info, 0.0)
        self.installs = Installs(self.ledger)
        self.registry: dict[str, InstallEntry] = {}

    def take(self) -> list[Any]:
        """The effects so far; frames as dicts."""
        effects, self.ledger.effects = self.ledger.effects, []
        for one in effects:
            if isinstance(one, NoteInstall):
                self.registry[one.entry.id] = one.entry
            elif isinstance(one, DropInstall):
                del self.registry[one.request_id]
        told = [one for one in effects if not isinstance(one, NoteInstall | DropInstall)]
        return [json.loads(one.text) if isinstance(one, Send) else one for one in told]

    def progress(self, task_id: str, node: str, done: int, stage: str = "downloading") -> list[Any]:
        self.installs.progress(task_id, InstallProgress(model="m", node=node, stage=stage, done=done, total=100))
        return self.take()


@pytest.fixture
def two() -> Asked:
    return Asked(worker("w1", node="h1"), worker("w2", node="h1"), worker("w3", node="h2"))


@pytest.mark.parametrize(
    ("worker_id", "nodes"), [(None, ["h1", "h2"]), ("w2", ["h1"]), ("w3", ["h2"]), ("h2", ["h2"])]
)
def test_which_hosts(two: Asked, worker_id: str | None, nodes: list[str]):
    two.installs.ask(Install(request_id="r", model="m", worker_id=worker_id))
    assert two.take() == [StartTask(f"r.{node}", "tasks.install_model", {"model": "m"}, node) for node in nodes]
    two.installs.ask(Install(request_id="r", model="m", worker_id=worker_id))
    assert two.take() == []


def test_nobody_there(two: Asked):
    two.installs.ask(Install(request_id="r", model="m", worker_id="w9"))
    (error,) = two.take()
    assert (error["job_id"], error["code"], error["status"]) == ("r", "worker_not_found", 404)
    empty = Asked()
    empty.installs.ask(Uninstall(request_id="r", model="m"))
    (error,) = empty.take()
    assert (error["code"], error["status"]) == ("no_worker", 503)


def test_each_host_is_heard_and_the_slowest_counts(two: Asked):
    two.installs.ask(Install(request_id="r", model="m"))
    two.take()
    (frame,) = two.progress("r.h1", "h1", 90)
    assert (frame["type"], frame["job_id"], frame["seq"]) == ("progress", "r", 0)
    assert (frame["fraction"], frame["stage"]) == (0.0, "waiting")  # the other one has said nothing
    assert (frame["detail"]["node"], frame["detail"]["done"], frame["detail"]["total"]) == ("h1", 90, 100)
    (frame,) = two.progress("r.h2", "h2", 10)
    assert (frame["seq"], frame["fraction"], frame["stage"]) == (1, 0.1, "downloading")
    (frame,) = two.progress("r.h1", "h1", 95)
    assert (frame["fraction"], frame["detail"]["done"]) == (0.1, 95)
    assert two.progress("r.h1", "h1", 95) == []  # no news
    two.installs.ended("r.h1", {"node": "h1"}, None)
    (frame,) = two.take()
    assert (frame["detail"]["node"], frame["detail"]["stage"]) == ("h1", "done")
    two.progress("r.h2", "h2", 50)
    two.installs.ended("r.h2", {"node": "h2"}, None)
    (frame,) = two.take()
    assert frame["type"] == "result"
    assert json.loads(frame["data"]) == {"hosts": [{"node": "h1"}, {"node": "h2"}]}
    assert two.installs.running == ()


def test_a_failure_of_one_host_is_the_end_of_the_request_when_all_have_ended(two: Asked):
    two.installs.ask(Install(request_id="r", model="m"))
    two.installs.ended("r.h1", None, PendraError("no room", code="disk_full"))
    two.installs.ended("r.h2", {"node": "h2"}, None)
    *_, frame = two.take()
    assert (frame["type"], frame["code"], frame["status"]) == ("error", "disk_full", 507)
    assert frame["message"] == "h1: no room"
    assert frame["worker_id"] == "h1"


def test_a_cancel_stops_all_hosts(two: Asked):
    two.installs.ask(Install(request_id="r", model="m"))
    two.take()
    assert two.installs.cancel("r")
    assert two.take() == [StopTask("r.h1", "h1"), StopTask("r.h2", "h2")]
    assert two.installs.cancel("r", discard=True)
    assert two.take() == [StopTask("r.h1", "h1", discard=True), StopTask("r.h2", "h2", discard=True)]
    assert not two.installs.cancel("other")
    two.installs.ended("unknown", None, None)
    assert two.take() == []


# ------------------------------------------------------------------- what may get lost


def test_what_happens_while_the_link_is_down_is_told_afterwards(two: Asked):
    two.installs.ask(Install(request_id="r", model="m", worker_id="h1"))
    two.installs.ask(Install(request_id="s", model="m", worker_id="h2"))
    two.take()
    two.progress("s.h2", "h2", 10)
    two.ledger.flow.down()
    two.installs.ended("r.h1", {"node": "h1"}, None)
    two.progress("s.h2", "h2", 70)
    two.ledger.flow.up()
    two.take()
    two.installs.welcomed({"r": 4, "s": 0})
    result, progress = two.take()
    assert (result["type"], result["job_id"], result["seq"]) == ("result", "r", 5)  # after all that the API has
    assert (progress["job_id"], progress["fraction"]) == ("s", 0.7)
    two.installs.ack("r", 4)
    assert two.installs.knows("r")
    two.installs.ack("r", 5)
    two.take()
    assert not two.installs.knows("r")
    assert set(two.registry) == {"s"}


def test_an_end_that_the_api_has_is_forgotten_and_what_runs_goes_on(two: Asked):
    two.installs.ask(Install(request_id="r", model="m", worker_id="h1"))
    two.installs.ask(Install(request_id="s", model="m", worker_id="h2"))
    two.installs.ended("r.h1", {}, None)
    two.take()
    two.installs.welcomed({})
    assert two.take() == []
    assert (two.installs.knows("r"), two.installs.running) == (False, ("s.h2",))


def test_a_successor_goes_on_and_starts_nothing_twice(two: Asked):
    two.installs.ask(Install(request_id="r", model="m"))
    two.installs.ended("r.h1", None, PendraError("no room", code="disk_full"))
    two.take()
    successor = Asked(worker("w1", node="h1"))
    successor.installs.adopt(list(two.registry.values()))
    successor.installs.ask(Install(request_id="r", model="m"))
    assert successor.take() == []
    assert successor.installs.running == ("r.h2",)
    successor.installs.welcomed({"r": 7})
    successor.installs.ended("r.h2", {}, None)
    (frame,) = successor.take()
    assert (frame["code"], frame["message"], frame["seq"]) == ("disk_full", "h1: no room", 8)


def test_tasks_that_redis_lost_are_sent_again_unless_they_run(two: Asked):
    two.installs.ask(Install(request_id="r", model="m"))
    two.take()
    two.progress("r.h1", "h1", 1)
    two.registry.clear()
    two.installs.redis_emptied()
    assert two.take() == [StartTask("r.h2", "tasks.install_model", {"model": "m"}, "h2")]
    assert set(two.registry) == {"r"}


def test_arguments():
    variant = {"gguf_url": "hf://a/b/c.gguf", "gguf_sha256": "a" * 64, "size": 5, "quantisation": "F16"}
    frame = Install(request_id="r", model="m", backend="pendra", variant=variant)
    own = {"model": "m", "source": "hf://a/b/c.gguf", "sha256": "a" * 64, "size": 5, "backend": "pendra"}
    assert task_of(frame) == ("tasks.install_model", own)
    named = Install(request_id="r", model="m", variant={"quantisation": "F16", "gguf_url": None})
    assert task_of(named)[1] == {"model": "m", "variant": "F16"}
    other = Install(
        request_id="r", model="m", backend="ollama", variant={"name": "x/m", "gguf_url": "hf://a/b/c.gguf"}
    )
    assert task_of(other)[1] == {"model": "m", "source": "x/m", "backend": "ollama"}
    assert task_of(Uninstall(request_id="r", model="m", force=True)) == (
        "tasks.uninstall_model",
        {"model": "m", "force": True},
    )
