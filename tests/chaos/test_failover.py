"""A worker dies in the middle of a stream, and the reader of the stream sees a pause, nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ops.node_state import live_workers
from tasks import keys
from tasks.contract import WorkerInfo
from tasks.redis_client import connect
from tests.acceptance.stack import Stack, eventually, running
from tests.chaos.clients import Client, Watched, assert_whole, request

COUNTED = " ".join(str(number) for number in range(200))
"""About 700 tokens, longer than the grace."""
FORCED = {"name": "counted", "strict": True, "schema": {"const": COUNTED}}


@pytest.fixture(scope="module")
def stack(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("failover")
    (home / "config.yaml").write_text("grace_seconds: 1.5\n")
    with running(Stack(home, models_dir, args=("--workers", "2", "--slots", "4")), workers=2) as up:
        yield up


@pytest.fixture(scope="module")
def undisturbed(stack: Stack) -> Watched:
    seen = Client(stack, request()).result()
    assert len(seen.times) > 50, "too short to be disturbed"
    return seen


@pytest.fixture
def both(stack: Stack) -> None:
    """Both workers are there and idle, whatever the test before did."""
    assert eventually(lambda: [info.slots_busy for info in workers(stack)] == [0, 0], 60)


def workers(stack: Stack) -> list[WorkerInfo]:
    with contextlib.closing(connect(stack.status_url())) as client:
        return list(live_workers(client).values())


def serving(stack: Stack) -> WorkerInfo:
    """The worker that runs a job now."""
    return eventually(lambda: [info for info in workers(stack) if info.slots_busy])[0]


def held(stack: Stack) -> set[bytes]:
    with contextlib.closing(connect(stack.status_url())) as client:
        return {job for info in workers(stack) for job in client.smembers(keys.credits_of(info.worker_id))}


def left_open(stack: Stack) -> list[bytes]:
    """Keys of jobs that Redis still has."""
    with contextlib.closing(connect(stack.status_url())) as client:
        return [*client.scan_iter(keys.job("*")), *client.scan_iter(keys.open_jobs("*"))]


@pytest.mark.usefixtures("both")
def test_a_killed_workers_stream_goes_on_where_it_was(stack: Stack, undisturbed: Watched) -> None:
    client = Client(stack, request())
    client.after(20)
    victim = serving(stack)
    os.kill(victim.pid, signal.SIGKILL)
    assert len(client.seen.times) < len(undisturbed.times), "killed too late to prove anything"
    seen = client.result()
    assert_whole(seen, undisturbed)
    assert seen.workers != [victim.worker_id]


@pytest.mark.usefixtures("both")
def test_a_stopped_worker_that_wakes_again_writes_nothing_into_the_stream(stack: Stack, undisturbed: Watched) -> None:
    client = Client(stack, request())
    client.after(20)
    zombie = serving(stack)
    os.kill(zombie.pid, signal.SIGSTOP)
    try:
        before = len(client.seen.times)
        client.after(before + 5)  # somebody else went on: the lease has lapsed
    finally:
        os.kill(zombie.pid, signal.SIGCONT)
    seen = client.result()
    assert_whole(seen, undisturbed)
    assert seen.workers != [zombie.worker_id]
    assert eventually(lambda: len(workers(stack)) == 2 and not stack.slots_busy(), 20)
    assert eventually(lambda: not held(stack)), "a slot leaked"


@pytest.mark.usefixtures("both")
def test_a_job_that_does_not_stream_starts_over(stack: Stack, undisturbed: Watched) -> None:
    answers: list[httpx.Response] = []
    headers = {"Authorization": f"Bearer {stack.key}"}

    def ask() -> None:
        url = f"{stack.url}/v1/chat/completions"
        answers.append(httpx.post(url, json=request(stream=False), headers=headers, timeout=90))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    os.kill(serving(stack).pid, signal.SIGKILL)
    asking.join(90)
    (answer,) = answers
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == undisturbed.text


@pytest.mark.usefixtures("both")
def test_a_redis_that_is_killed_takes_no_token_with_it(stack: Stack, undisturbed: Watched) -> None:
    pid = stack.processes("redis")[0]["pid"]
    client = Client(stack, request())
    client.after(20)
    worker = serving(stack)
    os.kill(pid, signal.SIGKILL)
    assert len(client.seen.times) < len(undisturbed.times), "killed too late to prove anything"
    seen = client.result()
    assert_whole(seen, undisturbed)
    assert seen.workers == [worker.worker_id], "the worker went on; nobody had to start over"
    assert eventually(lambda: len(workers(stack)) == 2 and not stack.slots_busy(), 20)
    assert eventually(lambda: not held(stack)), "a slot leaked"


@pytest.mark.usefixtures("both")
def test_a_bridge_that_is_killed_is_succeeded_by_one_that_goes_on(stack: Stack, undisturbed: Watched) -> None:
    pid = stack.processes("bridge")[0]["pid"]
    client = Client(stack, request())
    client.after(20)
    worker = serving(stack)
    os.kill(pid, signal.SIGKILL)
    assert len(client.seen.times) < len(undisturbed.times), "killed too late to prove anything"
    seen = client.result()
    assert_whole(seen, undisturbed)
    assert seen.workers == [worker.worker_id], "the worker never stopped"
    assert eventually(lambda: not held(stack)), "a slot leaked"
    assert eventually(lambda: not left_open(stack)), "the successor forgot to forget"


@pytest.mark.usefixtures("both")
def test_a_drained_workers_stream_is_handed_over_at_the_grace_limit(stack: Stack) -> None:
    """The text is forced: what goes on after hundreds of tokens may turn a near tie of a free one."""
    asked = {**request(max_tokens=2000), "response_format": {"type": "json_schema", "json_schema": FORCED}}
    client = Client(stack, asked)
    client.after(20)
    drained = serving(stack)
    done = stack.cli("drain", drained.worker_id)
    assert done.returncode == 0, done.stderr
    assert client.is_alive(), "over before it could be handed over"
    seen = client.result()
    assert json.loads(seen.text) == COUNTED
    assert (seen.errors, seen.roles, seen.finishes, seen.done, len(seen.ids)) == ([], 1, ["stop"], 1, 1)
    assert seen.workers != [drained.worker_id]
    assert eventually(lambda: len(workers(stack)) == 2, 30), "its supervisor starts it anew"
