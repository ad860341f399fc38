"""`celery -A tasks …` works as Celery users expect, on the real command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.fakes.waiting import until
from tests.integration.worker_fleet import ROOT, Fleet

pytestmark = pytest.mark.integration

CELERY = (sys.executable, "-m", "celery", "-A", "tasks")


@pytest.fixture(scope="module")
def fleet(redis_server, tmp_path_factory) -> Iterator[Fleet]:
    fleet = Fleet(redis_server.url, tmp_path_factory.mktemp("fleet"))
    fleet.client.flushall()
    with fleet.worker("w1"):
        yield fleet
    fleet.close()


def celery(fleet: Fleet, *args: str, **changes: str) -> subprocess.CompletedProcess[str]:
    env = fleet.env("cli", 1) | changes
    return subprocess.run(
        [*CELERY, *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_inspect_ping_finds_the_node_by_its_child_id(fleet):
    done = celery(fleet, "inspect", "ping")
    assert done.returncode == 0, done.stderr
    assert "chat@w1: OK" in done.stdout


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (("-P", "prefork"), "prefork"),
        (("-Pprefork",), "prefork"),
        (("--pool=prefork",), "prefork"),
        (("-EP", "prefork"), "prefork"),
        (("-P", "processes"), "prefork"),
        (("-P", "solo"), "solo"),
    ],
)
def test_other_pools_are_refused_with_the_reason(fleet, asked, named):
    done = celery(fleet, "worker", *asked)
    assert done.returncode != 0
    assert f"pool '{named}' cannot serve models" in done.stderr
    assert "threads is the default" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_bad_setting_is_said_without_a_traceback(fleet):
    env = fleet.env("cli", 1) | {"PENDRA_FLEET_KEY": "short"}
    done = subprocess.run(
        [*CELERY, "worker"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "PENDRA_FLEET_KEY" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_flower_lists_the_worker(fleet, tmp_path):
    socket = tmp_path / "flower.sock"
    env = fleet.env("cli", 1) | {"FLOWER_UNAUTHENTICATED_API": "true"}
    with (tmp_path / "flower.out").open("wb") as out:
        process = subprocess.Popen(
            [*CELERY, "flower", f"--unix-socket={socket}"], cwd=ROOT, env=env, stdout=out, stderr=out
        )
    try:
        until(socket.exists)
        fleet.submit("watched", body={"messages": [{"content": "the-prompt"}], "chunks": 2})
        fleet.finished("watched")
        until(lambda: "chat@w1" in get(socket, "/api/workers?refresh=true"), every_s=0.2)
        assert "the-prompt" not in get(socket, "/api/tasks")
    finally:
        process.kill()  # how Flower ends is not our business
        process.wait(10)


def get(socket: os.PathLike[str], path: str) -> str:
    import httpx

    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as client:
        return client.get(f"http://flower{path}").text
