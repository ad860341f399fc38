"""Installs that the API asked for: to which hosts, one progress, one end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.effects import Send, StartTask, StopTask
from bridge.installs import Installs, task_of
from bridge.ledger import Ledger
from bridge.protocol import Install, Uninstall
from tasks.contract import InstallProgress
from tasks.errors import PendraError
from tests.bridge.builders import worker


class Asked:
    def __init__(self, *workers: Any) -> None:
        self.ledger = Ledger("b1")
        self.ledger.linked = True
        for info in workers:
            self.ledger.fleet.upsert(info, 0.0)
        self.installs = Installs(self.ledger)

    def take(self) -> list[Any]:
        """The effects so far; frames as dicts."""
        effects, self.ledger.effects = self.ledger.effects, []
        return [json.loads(one.text) if isinstance(one, Send) else one for one in effects]

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


def test_one_progress_and_one_result_of_all_hosts(two: Asked):
    two.installs.ask(Install(request_id="r", model="m"))
    two.take()
    assert two.progress("r.h1", "h1", 90) == []  # the other one has said nothing
    (frame,) = two.progress("r.h2", "h2", 10)
    assert (frame["type"], frame["job_id"], frame["seq"], frame["fraction"]) == ("progress", "r", 0, 0.1)
    assert two.progress("r.h1", "h1", 95) == []  # the slowest counts
    two.installs.ended("r.h1", {"node": "h1"}, None)
    assert two.take() == []
    (frame,) = two.progress("r.h2", "h2", 50)
    assert frame["seq"] == 1
    two.installs.ended("r.h2", {"node": "h2"}, None)
    (frame,) = two.take()
    assert (frame["type"], frame["seq"]) == ("result", 2)
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
    assert two.take() == [StopTask("r.h1"), StopTask("r.h2")]
    assert not two.installs.cancel("other")
    two.installs.ended("unknown", None, None)
    assert two.take() == []


def test_arguments():
    variant = {"gguf_url": "hf://a/b/c.gguf", "gguf_sha256": "a" * 64, "size": 5, "quantisation": "F16"}
    frame = Install(request_id="r", model="m", backend="pendra", variant=variant)
    own = {"model": "m", "source": "hf://a/b/c.gguf", "sha256": "a" * 64, "size": 5, "backend": "pendra"}
    assert task_of(frame) == ("tasks.install_model", own)
    named = Install(request_id="r", model="m", variant={"quantisation": "F16", "gguf_url": None})
    assert task_of(named)[1] == {"model": "m", "variant": "F16"}
    assert task_of(Uninstall(request_id="r", model="m", force=True)) == (
        "tasks.uninstall_model",
        {"model": "m", "force": True},
    )
