"""A `pendra up` beside external servers: fakes over real HTTP, a real proxy worker, the official clients."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pendra

from ops.node_state import live_workers
from tasks.redis_client import connect
from tests.acceptance.stack import MODEL, Stack, eventually, running
from tests.fakes.lmstudio_server import LLAMA, LmStudioServer
from tests.fakes.ollama_models import EMBEDDER, PAINTER, THINKER, Model
from tests.fakes.ollama_server import OllamaServer
from tests.fakes.serving import serving
from tests.fakes.speaches_server import KOKORO, WHISPER, SpeachesServer
from tests.fakes.vllm_server import VllmServer

CHAT = Model("tinyllama:1b", ("completion", "tools"))  # vLLM has it, too
BLIND = Model("blind:1b", ("completion",))
SEER = Model("llava:7b", ("completion", "vision"))
HELLO = [{"role": "user", "content": "hello"}]
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
PICTURE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": PIXEL}},
        ],
    }
]


class Server:
    """A fake that can be stopped and started again at the same place."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._held = ExitStack()
        self.url = ""
        self.start()

    def start(self) -> None:
        self.url = self._held.enter_context(serving(self._app, urlsplit(self.url).port or 0))

    def stop(self) -> None:
        self._held.close()

    @contextmanager
    def replaced_by(self, app: Any) -> Iterator[None]:
        self.stop()
        try:
            with serving(app, urlsplit(self.url).port or 0):
                yield
        finally:
            self.start()


@dataclass
class Site:
    """A stack beside an Ollama, a vLLM, an LM Studio and a Speaches.

    Ollama and vLLM both have CHAT, and Ollama has the built-in engine's model, too.
    """

    stack: Stack
    ollama: OllamaServer
    vllm: VllmServer
    lmstudio: LmStudioServer
    speaches: SpeachesServer
    servers: dict[str, Server]
    api: httpx.Client
    openai: openai.OpenAI
    pendra: pendra.Pendra

    def models(self, kind: str = "") -> list[dict]:
        rows = self.api.get("/api/v1/models", params={"type": kind} if kind else {}).json()
        return list(rows["data"])

    def ids(self, kind: str = "") -> set[str]:
        return {row["id"] for row in self.models(kind)}

    def chat(self, model: str, **more: object) -> httpx.Response:
        body = {"model": model, "messages": HELLO, "max_tokens": 4, **more}
        return self.api.post("/v1/chat/completions", json=body)

    @contextmanager
    def another(self, product: str, app: Any, model: str) -> Iterator[None]:
        """While the block runs, another server stands in for the product's, at its place, with this model."""
        with self.servers[product].replaced_by(app):
            assert eventually(lambda: model in self.ids()), self.backends()
            yield

    def managed(self, what: str, model: str, **more: str) -> dict[str, Any]:
        """An `installs` or `uninstalls` request, followed to its end."""
        begun = self.api.post(f"/api/v1/{what}", json={"model": model, **more})
        assert begun.status_code == 202, begun.text
        place = f"/api/v1/installs/{begun.json()['data'][0]['id']}"
        return dict(eventually(lambda: _ended(self.api.get(place).json()), 60))

    def found(self, backend: str, model: str) -> bool:
        """Whether the proxy's heartbeat says that this backend has the model."""
        with closing(connect(self.stack.status_url())) as client:
            reports = [row for info in live_workers(client).values() for row in info.backends]
        return any(row.product == backend and model in {one.id for one in row.models} for row in reports)

    def backends(self) -> dict[str, dict[str, Any]]:
        """What `pendra backends --json` says of this host, by product."""
        (node,) = json.loads(self.stack.cli("backends", "--json").stdout)
        return {row["product"]: row for row in node["backends"]}


def _ended(install: dict[str, Any]) -> dict[str, Any] | None:
    return None if install["state"] == "running" else install


@contextmanager
def running_site(home: Path, models_dir: Path, **env: str) -> Iterator[Site]:
    """`env`: more variables for the stack."""
    ollama = OllamaServer(
        models=[CHAT, THINKER, EMBEDDER, PAINTER, BLIND, SEER, Model(MODEL)], words=("Hello", " Ollama")
    )
    vllm, lmstudio, speaches = VllmServer(model=CHAT.name), LmStudioServer(), SpeachesServer()
    with ExitStack() as held:
        fakes = {"ollama": ollama, "vllm": vllm, "lmstudio": lmstudio, "speaches": speaches}
        servers = {name: Server(fake.app()) for name, fake in fakes.items()}
        for server in servers.values():
            held.callback(server.stop)
        backends = {f"{name.upper()}_ENDPOINT": server.url for name, server in servers.items()}
        backends |= {"PENDRA_REFRESH_SECONDS": "0.3", "PENDRA_PRIVATE_SOURCES": "true", **env}  # models from files
        stack = held.enter_context(running(Stack(home, models_dir, args=("--slots", "2"), backends=backends)))
        headers = {"Authorization": f"Bearer {stack.key}"}
        api = held.enter_context(httpx.Client(base_url=stack.url, headers=headers, timeout=120))
        openai_client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0, timeout=120)
        pendra_client = pendra.Pendra(api_key=stack.key, base_url=stack.url)
        held.callback(openai_client.close)
        held.callback(pendra_client.close)
        site = Site(stack, ollama, vllm, lmstudio, speaches, servers, api, openai_client, pendra_client)
        here = {SEER.name, CHAT.name, LLAMA.id, WHISPER, KOKORO}
        assert eventually(lambda: here <= site.ids(), 30), site.ids()
        yield site
