"""Asking an external server of this host for a model: found as the proxy worker does, watched, stopped."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tasks.contract import InstallRequest, Job, ModelInfo
from tasks.errors import NotFoundError, PendraError, UnavailableError
from tasks.settings import Settings, load_settings
from worker.backends.base import Reply
from worker.backends.external.product import Found, NotFoundHere, ProductName, PullProgress, Served
from worker.external_models import ExternalModels
from worker.installer_agent import Agent
from worker.store.curated import backend_of, load, name_at
from worker.store.errors import InstallCancelled, UnsupportedSource
from worker.store.run import Stop

URL = "http://ollama.test"


class FakeServer:
    """An Ollama as a product sees it, without a network. `hangs`: a pull that says something and then nothing."""

    name = ProductName.OLLAMA
    default_port = 11434
    kinds = frozenset()
    installs = uninstalls = True

    def __init__(self, *names: str, there: bool = True, hangs: bool = False) -> None:
        self.names = list(names)
        self.there = there
        self.hangs = hangs
        self.asked: list[str] = []
        self.closed = threading.Event()

    async def probe(self, http: httpx.AsyncClient, url: str) -> Found:
        if not self.there:
            raise NotFoundHere("nobody listens there")
        return Found(self.name, url)

    async def models(self, http: httpx.AsyncClient, found: Found) -> tuple[Served, ...]:
        return tuple(Served(ModelInfo(id=name), name) for name in self.names)

    async def serve(self, http: httpx.AsyncClient, found: Found, model: Served, job: Job, reply: Reply) -> None:
        raise NotImplementedError

    async def install(self, http: httpx.AsyncClient, found: Found, model: str, progress: PullProgress) -> None:
        self.asked.append(model)
        progress("downloading", 5, 10)
        if self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.closed.set()
        self.names.append(model)

    async def uninstall(self, http: httpx.AsyncClient, found: Found, model: str) -> None:
        if model not in self.names:
            raise NotFoundError(f"Ollama has no model {model}", code="model_not_installed")
        self.names.remove(model)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, worker_id="n", ollama_endpoint=URL, redis_url="redis://127.0.0.1:1/0")


def quiet(_stage: str, _done: int, _total: int | None) -> None:
    pass


def test_a_model_is_fetched_once_and_removed(settings: Settings) -> None:
    server = FakeServer()
    external, seen = ExternalModels(settings, [server]), []
    done = external.install("ollama", "smollm2", lambda *told: seen.append(told))
    assert (done.name, done.url, done.fetched) == ("smollm2", URL, True)
    assert seen == [("downloading", 5, 10)]
    server.names = ["smollm2:latest"]
    assert external.install("ollama", "smollm2", quiet).fetched is False
    assert server.asked == ["smollm2"]
    assert external.uninstall("ollama", "smollm2:latest") == URL
    with pytest.raises(NotFoundError, match="has no model"):
        external.uninstall("ollama", "smollm2:latest")


def test_a_server_that_is_not_there_says_where_it_was_looked_for(settings: Settings) -> None:
    external = ExternalModels(settings, [FakeServer(there=False)])
    with pytest.raises(UnavailableError, match=r"Ollama is not there: .*nobody listens there") as caught:
        external.install("ollama", "m", quiet)
    assert caught.value.code == "backend_unavailable"


def test_one_that_is_switched_off_says_so(settings: Settings) -> None:
    external = ExternalModels(settings.model_copy(update={"ollama_endpoint": "off"}), [FakeServer()])
    with pytest.raises(UnavailableError, match="OLLAMA_ENDPOINT switches it off"):
        external.install("ollama", "m", quiet)


def test_a_backend_that_does_not_exist_lists_those_that_do(settings: Settings) -> None:
    with pytest.raises(UnsupportedSource, match="there are pendra, ollama"):
        ExternalModels(settings, [FakeServer()]).install("tgi", "m", quiet)


@pytest.mark.parametrize("why", list(Stop))
def test_a_stop_closes_the_request(settings: Settings, why: Stop) -> None:
    server = FakeServer(hangs=True)
    with pytest.raises(InstallCancelled) as caught:
        ExternalModels(settings, [server]).install("ollama", "m", quiet, lambda: why if server.asked else None)
    assert caught.value.code == ("draining" if why is Stop.LATER else "cancelled")
    assert server.closed.is_set()


def test_what_the_server_says_is_told(settings: Settings) -> None:
    server = FakeServer()

    async def refuse(*_: Any) -> None:
        raise PendraError("pull it in the app", code="install_unsupported")

    server.install = refuse  # type: ignore[method-assign]
    with pytest.raises(PendraError, match="in the app") as caught:
        ExternalModels(settings, [server]).install("ollama", "m", quiet)
    assert caught.value.code == "install_unsupported"


# ------------------------------------------------------------------- which backend, which name


@pytest.mark.parametrize(
    ("model", "backend", "whose"),
    [
        ("smollm2:135m", None, "pendra"),
        ("smollm2:135m", "ollama", "ollama"),
        ("whisper:small", None, "speaches"),
        ("unknown", None, "pendra"),
    ],
)
def test_whose_model_it_is(model: str, backend: str | None, whose: str) -> None:
    assert backend_of(model, backend, load()) == whose


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (InstallRequest(model="whisper:small"), "Systran/faster-whisper-small"),
        (InstallRequest(model="unknown:1b"), "unknown:1b"),
        (InstallRequest(model="whisper:small", source="other/whisper"), "other/whisper"),
    ],
)
def test_what_the_backend_calls_it(request_: InstallRequest, name: str) -> None:
    assert name_at("speaches", request_, load()) == name


# ------------------------------------------------------------------- the agent


class Told:
    """What of the agent's unloading matters here: who was told to look again."""

    def __init__(self) -> None:
        self.looked: list[str] = []

    def restore(self, model: str) -> None:
        self.looked.append(model)


def test_the_agent_has_a_server_fetch_it_and_the_proxy_worker_look(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, told, states = FakeServer(), Told(), []
    monkeypatch.setattr("worker.external_models.known_products", lambda: (server,))
    agent = Agent(settings)
    monkeypatch.setattr(agent, "_unloading", told)
    task = SimpleNamespace(
        request=SimpleNamespace(id="t1"),
        update_state=lambda **fields: states.append(fields["meta"]),
        send_event=lambda *_, **__: None,
    )
    done = agent.install(InstallRequest(model="llava", backend="ollama"), task)
    assert done == {
        "model": "llava", "node": "n", "backend": "ollama", "name": "llava", "url": URL, "fetched": True,
    }  # fmt: skip
    assert [(state["stage"], state["done"], state["total"]) for state in states] == [("downloading", 5, 10)]
    gone = agent.uninstall("llava", "ollama", force=False, task_id="t2")
    assert (gone["removed"], gone["backend"]) == (["llava"], "ollama")
    assert told.looked == ["llava", "llava"]
    agent.close()
