"""Ollama as one of the external servers."""

from __future__ import annotations

import time
from dataclasses import replace

import httpx

from tasks.contract import Job, JobKind
from tasks.errors import BadRequestError
from worker.backends.base import Reply
from worker.backends.external.ollama.chat import serve_chat
from worker.backends.external.ollama.embeddings import serve_embeddings
from worker.backends.external.ollama.images import serve_images
from worker.backends.external.ollama.listing import Listing, tags_of
from worker.backends.external.ollama.pulling import delete, pull
from worker.backends.external.probing import look
from worker.backends.external.product import Found, NotFoundHere, ProductName, PullProgress, Served
from worker.backends.external.upstream import PATIENCE, Patience

_PULL_IDLE_S = 900.0  # it hashes what it fetched without a word: tens of gigabytes on a slow disk
_IMAGE_IDLE_S = 600.0  # between two steps of an image on a CPU
_SERVES = {
    JobKind.CHAT: serve_chat,
    JobKind.EMBEDDINGS: serve_embeddings,
    JobKind.IMAGE: serve_images,
}


class Ollama:
    """`Product`; every method is as described there."""

    name = ProductName.OLLAMA
    default_port = 11434
    kinds = frozenset(_SERVES)
    installs = True
    uninstalls = True

    def __init__(self, patience: Patience = PATIENCE) -> None:
        self._patience = patience
        self._listing = Listing()

    async def probe(self, http: httpx.AsyncClient, url: str) -> Found:
        began = time.monotonic()
        version = (await look(http, url, "/api/version")).get("version")
        latency_ms = round(1000 * (time.monotonic() - began), 3)
        if not isinstance(version, str):
            raise NotFoundHere("GET /api/version answered JSON that is not Ollama's")
        tags_of(await look(http, url, "/api/tags"))
        return Found(self.name, url, version, latency_ms)

    async def models(self, http: httpx.AsyncClient, found: Found) -> tuple[Served, ...]:
        return await self._listing.models(http, found)

    async def serve(self, http: httpx.AsyncClient, found: Found, model: Served, job: Job, reply: Reply) -> None:
        run = _SERVES.get(job.kind)
        if run is None:
            raise BadRequestError(f"Ollama does not serve {job.kind}", code="wrong_capability", param="model")
        idle_s = _IMAGE_IDLE_S if job.kind is JobKind.IMAGE else 0.0
        await run(http, found, model, job, reply, self._patient(idle_s))

    async def install(self, http: httpx.AsyncClient, found: Found, model: str, progress: PullProgress) -> None:
        await pull(
            http, found, model, progress, replace(self._patience, idle_s=max(self._patience.idle_s, _PULL_IDLE_S))
        )

    async def uninstall(self, http: httpx.AsyncClient, found: Found, model: str) -> None:
        await delete(http, found, model, self._patience)

    def _patient(self, idle_s: float) -> Patience:
        """At least that patient between two pieces of a reply."""
        return replace(self._patience, idle_s=max(self._patience.idle_s, idle_s))
