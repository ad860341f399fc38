"""Installs through Celery on a real Redis: progress, cancel, kill -9 and resume, as scripts and Flower see them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.events.state import State

from tasks.celery_config import UNINSTALL
from tests.fakes.waiting import PATIENCE_S, until
from tests.integration.install_host import NODE, Host, tiny
from tests.worker.store.models import GGUF, SHA256, FileServer, serving
from worker.store import journal

pytestmark = pytest.mark.integration


@pytest.fixture
def host(redis_url: str, tmp_path: Path) -> Iterator[Host]:
    with Host(redis_url, tmp_path) as made:
        yield made


@pytest.fixture
def strict(redis_url: str, tmp_path: Path) -> Iterator[Host]:
    """As a host is without a word about sources."""
    with Host(redis_url, tmp_path, PENDRA_PRIVATE_SOURCES="false") as made:
        yield made


def test_an_install_and_an_uninstall(host: Host):
    with serving(FileServer()) as server:
        meta = host.done(host.ask(**tiny(server)))
        assert meta["status"] == "SUCCESS", meta
        path = str(host.store / "tiny.gguf")
        expected = {"model": "tiny:1", "node": NODE, "path": path, "sha256": SHA256, "size": len(GGUF)}
        assert meta["result"] == expected | {"fetched": True}
        assert host.done(host.ask(**tiny(server)))["result"]["fetched"] is False
    (listed,) = host.app.control.inspect(timeout=2)._request("installed_models").values()
    assert [(model["id"], model["problem"]) for model in listed] == [("tiny:1", None)]
    assert host.done(host.ask(UNINSTALL, model="tiny:1"))["result"]["removed"] == [path]
    assert "[model_not_installed]" in host.words(host.ask(UNINSTALL, model="tiny:1"))


def test_failures_have_a_code_and_words_and_no_secrets(host: Host):
    assert "[model_not_found] the catalogue has no model nope" in host.words(host.ask(model="nope"))
    with serving(FileServer(statuses=[404])) as server:
        url = server.url + "?signature=hunter2"
        meta = host.done(host.ask(model="tiny:1", source=url, sha256=SHA256))
    assert "[download_failed]" in str(meta["result"])
    assert "hunter2" not in str(meta)
    assert "hunter2" not in host.log()
    words = host.words(host.ask(model="tiny:1", source="https://user:pw@h/x.gguf"))
    assert "[bad_source] a source must not hold a password" in words
    assert "[unsupported_source] there is no backend nope" in host.words(host.ask(model="tiny:1", backend="nope"))
    assert "[bad_request] the argument size" in host.words(host.ask(model="tiny:1", size="large"))


def test_a_task_may_not_reach_into_the_hosts_own_network(strict: Host):
    for source in ("file:///etc/x.gguf", "http://example.org/x.gguf", "https://127.0.0.1/x.gguf"):
        words = strict.words(strict.ask(model="tiny:1", source=source, sha256=SHA256))
        assert "[bad_source]" in words
        assert "PENDRA_PRIVATE_SOURCES" in words


def test_progress_is_a_state_and_an_event_for_flower(host: Host):
    seen: list[dict[str, Any]] = []
    state = State()
    over = threading.Event()

    def watch() -> None:
        with host.app.connection_for_read() as connection:
            receiver = host.app.events.Receiver(connection, handlers={"*": take})
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    receiver.capture(limit=None, timeout=0.2, wakeup=False)

    def take(event: dict[str, Any]) -> None:
        seen.append(event)
        state.event(event)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    with serving(FileServer(drip=True)) as server:
        task_id = host.ask(**tiny(server))
        until(lambda: host.downloading(task_id), every_s=0.05)
        progress = host.meta(task_id)["result"]
        assert (progress["model"], progress["node"], progress["total"]) == ("tiny:1", NODE, len(GGUF))
        until(lambda: any(event["type"] == "task-progress" for event in seen), every_s=0.05)
        assert "downloading" in str(state.tasks[task_id].result)
        assert state.tasks[task_id].state == "PROGRESS"
        server.drip = False
        assert host.done(task_id)["status"] == "SUCCESS"
    until(lambda: any(event["type"] == "task-succeeded" for event in seen), every_s=0.05)
    over.set()
    thread.join(PATIENCE_S)
    assert state.tasks[task_id].state == "SUCCESS"
    lines = [event["result"] for event in seen if event["type"] == "task-progress"]
    assert any(line.startswith("downloading") and "256.1 kB" in line for line in lines), lines


def test_two_at_once_download_once(host: Host):
    with serving(FileServer(pace_s=0.05)) as server:
        one, two = host.ask(**tiny(server)), host.ask(**tiny(server))
        fetched = sorted(host.done(task)["result"]["fetched"] for task in (one, two))
    assert fetched == [False, True]
    assert server.probes == 1


@pytest.mark.parametrize("way", ["control", "discard", "revoke"])
def test_cancel(host: Host, way: str):
    with serving(FileServer(stalls=[100_000, 0, 0, 0, 0])) as server:
        task_id = host.ask(**tiny(server))
        until(lambda: host.downloading(task_id), every_s=0.05)
        if way == "revoke":
            host.app.control.revoke(task_id)
        else:
            arguments = {"target": task_id, "discard": way == "discard"}
            (reply,) = host.app.control.broadcast("cancel_install", arguments=arguments, reply=True)
            assert reply[f"install@{NODE}"] == {"ok": [task_id]}
        assert "[cancelled]" in host.words(task_id)
    kept = [found.standing for _, found in journal.unfinished(host.store)]
    assert kept == ([] if way == "discard" else ["paused"])
    assert not (host.store / "tiny.gguf").exists()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_that_ends_goes_on_with_its_installs_when_it_starts_again(host: Host, signum: int):
    """Under the same task id, from where it was: who waits for the task notices a pause."""
    with serving(FileServer(stalls=[100_000])) as server:
        task_id = host.ask(**tiny(server))
        until(lambda: host.downloading(task_id), every_s=0.05)
        until(lambda: any(mark.spans[0][2] == 100_000 for _, j in journal.unfinished(host.store) for mark in j.files))
        host.stop(signum)
        assert [kept.standing for _, kept in journal.unfinished(host.store)] == ["running"]
        assert host.meta(task_id)["status"] == "PROGRESS"
        stray = host.store / ".installs" / "stray.gguf.d"
        stray.mkdir()
        host.start()
        assert host.done(task_id)["status"] == "SUCCESS", host.log()
    assert (host.store / "tiny.gguf").read_bytes() == GGUF
    assert not stray.exists()
    assert server.requests[-1]["range"].startswith("bytes=100000-")


def test_the_agent_goes_on_without_redis(redis_server, host: Host):
    """Nobody hears the progress, the model is there all the same."""
    with serving(FileServer(drip=True)) as server:
        task_id = host.ask(**tiny(server))
        until(lambda: host.downloading(task_id), every_s=0.05)
        redis_server.kill()
        server.drip = False
        try:
            until((host.store / "tiny.gguf").exists, every_s=0.05)
        finally:
            redis_server.start()


async def test_a_bridge_asks_and_hears(host: Host, redis_url: str):
    """An `install` frame in, `progress` and `result` frames out."""
    from bridge.dispatch import Dispatcher
    from bridge.install_watch import InstallWatch
    from bridge.protocol import Cancel, Install
    from bridge.registry import Registry
    from tasks.redis_client import connect_async
    from tasks.sealing import Opener, Sealer
    from tests.bridge.builders import FLEET_KEY, Driven, worker

    driven = Driven(worker(node=NODE))

    class Shell:
        def apply(self, effects: list[Any]) -> None:
            for effect in driven.do(effects):
                dispatcher.do(effect)

        def install_tasks(self) -> tuple[str, ...]:
            return driven.session.install_tasks

        def install_progress(self, *news: Any) -> None:
            self.apply(driven.session.install_progress(*news, driven.now))

        def install_ended(self, *news: Any) -> None:
            self.apply(driven.session.install_ended(*news, driven.now))

    client, shell = connect_async(redis_url), Shell()
    sealer = Sealer(FLEET_KEY)
    registry = Registry(client, "b", sealer, Opener(FLEET_KEY))
    dispatcher = Dispatcher(client, host.app, sealer, shell, registry)  # type: ignore[arg-type]
    watch = InstallWatch(client, shell, 0.05)
    running = asyncio.create_task(watch.run())

    async def heard(kind: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while not driven.of(kind):  # noqa: ASYNC110  # a sans-I/O session sets no events
                await asyncio.sleep(0.02)
        return dict(driven.of(kind)[-1])

    with serving(FileServer(drip=True)) as server:
        variant = {"gguf_url": server.url, "gguf_sha256": SHA256, "size": len(GGUF)}
        shell.apply(driven.session.frame(Install(request_id="r1", model="tiny:1", variant=variant), driven.now))
        assert (await heard("progress"))["worker_id"] == NODE
        server.drip = False
        assert '"tiny:1"' in (await heard("result"))["data"]
        server.stalls = [0, 0, 0, 0]
        other = variant | {"gguf_url": f"{server.base}/other.gguf"}
        shell.apply(driven.session.frame(Install(request_id="r2", model="other:1", variant=other), driven.now))
        await asyncio.to_thread(until, lambda: list(host.store.glob(".installs/other*/*.part")))
        shell.apply(driven.session.frame(Cancel(job_id="r2"), driven.now))
        error = await heard("error")
    assert (error["job_id"], error["code"], error["status"]) == ("r2", "cancelled", 499)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await dispatcher.settle()
    await client.aclose()
