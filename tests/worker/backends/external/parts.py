"""External servers by hand: a product whose answers the test writes, and short names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from tasks.contract import JobKind, ModelInfo
from tasks.errors import PendraError, WorkerError
from worker.backends.external.product import Found, NotFoundHere, Product, ProductName, Served

CHAT = frozenset({JobKind.CHAT, JobKind.EMBEDDINGS})
PORTS = {
    ProductName.OLLAMA: 11434,
    ProductName.VLLM: 8000,
    ProductName.LMSTUDIO: 1234,
    ProductName.SPEACHES: 8000,
}


def served(model: str, backend: str = "ollama", **fields: object) -> Served:
    return Served(ModelInfo(id=model, backend=backend, **fields), f"own-{model}")


class HandProduct(Product):
    """`at`: url → the models there, or the error it answers with. `script`: what `serve` does."""

    installs = uninstalls = True

    def __init__(self, name: ProductName = ProductName.OLLAMA, *, kinds: frozenset[JobKind] = CHAT) -> None:
        self.name = name
        self.default_port = PORTS[name]
        self.kinds = kinds
        self.at: dict[str, tuple[Served, ...] | Exception] = {}
        self.unlisted: Exception | None = None
        self.asked: list[str] = []
        self.jobs: list[tuple[str, str]] = []
        self.closed = 0
        self.gate: asyncio.Event | None = None
        self.script: Callable[..., None] = answer
        self.installed: list[str] = []

    def put(self, url: str, *models: str, **fields: object) -> HandProduct:
        self.at[url] = tuple(served(model, self.name, **fields) for model in models)
        return self

    async def probe(self, http, url):
        self.asked.append(url)
        there = self.at.get(url)
        if isinstance(there, Exception):
            raise there
        if there is None:
            raise NotFoundHere("connection refused")
        return Found(self.name, url, "1.0", 2.0)

    async def models(self, http, found):
        if self.unlisted:
            raise self.unlisted
        return self.at[found.url]

    async def serve(self, http, found, model, job, reply):
        self.jobs.append((found.url, model.name))
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.closed += 1
            raise
        self.script(reply, job)

    async def install(self, http, found, model, progress):
        progress("pulling", 1, 2)
        self.installed.append(model)

    async def uninstall(self, http, found, model):
        self.installed.remove(model)


def answer(reply, job) -> None:
    reply.chunk(json.dumps({"model": job.model}), None)
    reply.finish()


def down(reply, job) -> None:
    raise WorkerError("Ollama does not answer: connection refused", code="backend_unavailable")


def failing(error: PendraError | Exception) -> Callable[..., None]:
    def fail(reply, job) -> None:
        raise error

    return fail
