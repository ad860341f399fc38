"""Models come and go at the fake Ollama."""

from __future__ import annotations

import asyncio

import pytest

from tasks.errors import NotFoundError, WorkerError
from tests.fakes.ollama_models import CHAT
from tests.fakes.waiting import until
from worker.backends.external.ollama.pulling import Tally

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.fixture
def server(server):
    server.registry.library = {"qwen3.6:27b-q4": {A: 1000, B: 200}}
    return server


class Told:
    """Keeps the progress. `half`: half of the first layer has come."""

    def __init__(self) -> None:
        self.all: list[tuple[str, int, int | None]] = []
        self.half = asyncio.Event()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self.all.append((stage, done, total))
        if done >= 500:
            self.half.set()


async def pull(asker, told: Told | None = None, model: str = "qwen3.6:27b-q4") -> None:
    await asker.product.install(asker.http, asker.found, model, told or Told())


async def test_progress_by_layers(asker, server):
    told = Told()
    await pull(asker, told)
    assert told.all[0] == ("resolving", 0, None)
    assert told.all[-1] == ("verifying", 1200, 1200)
    assert [stage for n, (stage, *_) in enumerate(told.all) if not n or told.all[n - 1][0] != stage] == [
        "resolving",
        "downloading",
        "verifying",
    ]
    done = [done for _, done, _ in told.all]
    assert done == sorted(done)
    assert (await asker.model("qwen3.6:27b-q4")).info.capability == "chat"


async def test_a_pull_that_breaks_off_goes_on_where_it_was(asker, server):
    server.registry.dies = [300, 700]
    told = Told()
    await pull(asker, told)
    assert len(server.sent("/api/pull")) == 3
    done = [done for _, done, _ in told.all]
    assert done == sorted(done)
    assert server.registry.pulled == {A: 1000, B: 200}


async def test_one_that_never_gets_on_is_given_up(asker, server):
    server.registry.dies = [0, 0, 0, 0]
    with pytest.raises(WorkerError, match="broke off") as caught:
        await pull(asker)
    assert caught.value.code == "backend_error"
    assert len(server.sent("/api/pull")) == 1


async def test_what_the_library_does_not_have(asker):
    with pytest.raises(NotFoundError, match="has no model nobody:1") as caught:
        await pull(asker, model="nobody:1")
    assert caught.value.code == "model_not_found"


async def test_what_the_server_says_went_wrong(asker, server):
    server.registry.error = "max retries exceeded: no space left on device"
    with pytest.raises(WorkerError, match=r"could not fetch .*: max retries exceeded: no space left") as caught:
        await pull(asker)
    assert caught.value.code == "download_failed"


async def test_cancel_stops_the_server_too_and_what_came_stays(asker, server):
    server.registry.hangs_after = 500
    told = Told()
    task = asyncio.create_task(pull(asker, told))
    await told.half.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(until, server.closed.is_set)
    server.registry.hangs_after = None
    await pull(asker, told)
    assert server.registry.pulled == {A: 1000, B: 200}


async def test_delete(asker, server):
    await asker.product.uninstall(asker.http, asker.found, CHAT.name)
    assert CHAT not in server.models
    with pytest.raises(NotFoundError, match="has no model smollm2:135m") as caught:
        await asker.product.uninstall(asker.http, asker.found, CHAT.name)
    assert caught.value.code == "model_not_installed"


def test_a_tally_never_goes_back():
    tally = Tally()
    tally.take({"status": "pulling a", "digest": A, "total": 10, "completed": 5})
    assert tally.take({"status": "pulling a", "digest": A, "total": 10}) == ("downloading", 5, 10)
    assert tally.take({"status": "using fast transfer"}) == ("downloading", 5, 10)
