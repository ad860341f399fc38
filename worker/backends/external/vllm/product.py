"""vLLM as a backend. Models are chosen when it is started, so nothing is installed or removed here."""

from __future__ import annotations

import time

import httpx

from tasks.contract import Job, JobKind
from tasks.errors import BadRequestError
from worker.backends.base import Reply
from worker.backends.external.openai.client import OpenAIClient
from worker.backends.external.probing import look
from worker.backends.external.product import Found, NotFoundHere, ProductName, PullProgress, Served
from worker.backends.external.vllm.capability import capability
from worker.backends.external.vllm.cards import cards, served
from worker.backends.external.vllm.dialect import to_vllm

_REMEMBERED = 256


class Vllm:
    """As `Product`. What a server's model can do is asked once for each (url, version, model)."""

    name = ProductName.VLLM
    default_port = 8000
    kinds = frozenset({JobKind.CHAT, JobKind.COMPLETION, JobKind.EMBEDDINGS})
    installs = False
    uninstalls = False

    def __init__(self, client: OpenAIClient | None = None) -> None:
        self._client = client or OpenAIClient(dialect=to_vllm)
        self._capabilities: dict[tuple[str, str, str], str] = {}

    async def probe(self, http: httpx.AsyncClient, url: str) -> Found:
        began = time.monotonic()
        version = (await look(http, url, "/version")).get("version")
        latency_ms = round(1000 * (time.monotonic() - began), 3)
        if not isinstance(version, str):
            raise NotFoundHere("GET /version answered JSON without a version")
        cards(await look(http, url, "/v1/models"))
        return Found(self.name, url, version, latency_ms)

    async def models(self, http: httpx.AsyncClient, found: Found) -> tuple[Served, ...]:
        rows = cards(await look(http, found.url, "/v1/models"))
        return tuple([served(row, await self._capability(http, found, str(row["id"]))) for row in rows])

    async def serve(self, http: httpx.AsyncClient, found: Found, model: Served, job: Job, reply: Reply) -> None:
        await self._client.serve(http, found, model.name, job, reply)

    async def install(self, http: httpx.AsyncClient, found: Found, model: str, progress: PullProgress) -> None:
        del http, found, progress
        raise BadRequestError(
            f"vLLM is managed externally: it serves what it was started with; start it with `vllm serve {model}`",
            code="install_unsupported",
            param="backend",
        )

    async def uninstall(self, http: httpx.AsyncClient, found: Found, model: str) -> None:
        del http, found
        raise BadRequestError(
            f"vLLM is managed externally; stop the server that serves {model} and remove the files there",
            code="uninstall_unsupported",
            param="backend",
        )

    async def _capability(self, http: httpx.AsyncClient, found: Found, name: str) -> str:
        key = (found.url, found.version, name)
        known = self._capabilities.get(key)
        if known is None:
            if len(self._capabilities) >= _REMEMBERED:
                self._capabilities.clear()
            known = self._capabilities[key] = await capability(http, found.url, name)
        return known
