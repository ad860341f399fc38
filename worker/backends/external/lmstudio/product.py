"""LM Studio as one of the external servers."""

from __future__ import annotations

import time

import httpx

from tasks.contract import Job, JobKind
from tasks.errors import BadRequestError
from worker.backends.base import Reply
from worker.backends.external.lmstudio.dialect import chat
from worker.backends.external.lmstudio.download import POLL_S, download
from worker.backends.external.lmstudio.embeddings import serve_embeddings
from worker.backends.external.lmstudio.listing import NATIVE, OPENAI, listed, rows_of
from worker.backends.external.openai.client import OpenAIClient
from worker.backends.external.probing import look
from worker.backends.external.product import Found, ProductName, PullProgress, Served
from worker.backends.external.upstream import PATIENCE, Patience


class LmStudio:
    """`Product`; every method is as described there. The server does not say its version."""

    name = ProductName.LMSTUDIO
    default_port = 1234
    kinds = frozenset({JobKind.CHAT, JobKind.EMBEDDINGS})
    installs = True
    uninstalls = False

    def __init__(self, patience: Patience = PATIENCE, poll_s: float = POLL_S) -> None:
        self._patience = patience
        self._poll_s = poll_s
        self._client = OpenAIClient(dialect=chat, patience=patience)

    async def probe(self, http: httpx.AsyncClient, url: str) -> Found:
        began = time.monotonic()
        rows_of(await look(http, url, NATIVE), NATIVE)
        latency_ms = round(1000 * (time.monotonic() - began), 3)
        rows_of(await look(http, url, OPENAI), OPENAI)
        return Found(self.name, url, "", latency_ms)

    async def models(self, http: httpx.AsyncClient, found: Found) -> tuple[Served, ...]:
        return await listed(http, found)

    async def serve(self, http: httpx.AsyncClient, found: Found, model: Served, job: Job, reply: Reply) -> None:
        if job.kind is JobKind.CHAT:
            await self._client.serve(http, found, model.name, job, reply)
        elif job.kind is JobKind.EMBEDDINGS:
            await serve_embeddings(http, found, model, job, reply, self._patience)
        else:
            message = f"LM Studio does not serve {job.kind}"
            raise BadRequestError(message, code="wrong_capability", param="model")

    async def install(self, http: httpx.AsyncClient, found: Found, model: str, progress: PullProgress) -> None:
        await download(http, found, model, progress, self._patience, self._poll_s)

    async def uninstall(self, http: httpx.AsyncClient, found: Found, model: str) -> None:  # noqa: ARG002  # it cannot
        message = (
            f"LM Studio removes no models through its API: {model} is still there; remove it in the LM Studio app"
        )
        raise BadRequestError(message, code="uninstall_unsupported", param="model")
