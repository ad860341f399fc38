"""Asking the product that talks to the fake Ollama."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import pytest

from tasks.contract import Job
from tasks.errors import PendraError
from tests.worker.backends.external.asking import KeptReply
from worker.backends.external.ollama.product import Ollama
from worker.backends.external.product import Found, Served
from worker.backends.external.upstream import Patience

PATIENT = Patience(first_s=30.0, idle_s=30.0, pauses_s=(0.01, 0.01))
HASTY = Patience(first_s=30.0, idle_s=1.0, pauses_s=(0.01, 0.01))


@dataclass
class Asker:
    http: httpx.AsyncClient
    found: Found

    def __post_init__(self) -> None:
        self.product = Ollama(PATIENT)

    async def model(self, name: str) -> Served:
        models = await self.product.models(self.http, self.found)
        return next(model for model in models if model.name == name)

    async def ask(self, job: Job, model: str = "smollm2:135m", reply: KeptReply | None = None) -> KeptReply:
        reply = reply or KeptReply()
        await self.product.serve(self.http, self.found, await self.model(model), job, reply)
        return reply

    async def refusal(self, job: Job, model: str = "smollm2:135m") -> PendraError:
        """The error of a job of which nothing was replied."""
        reply = KeptReply()
        with pytest.raises(PendraError) as caught:
            await self.ask(job, model, reply)
        assert not reply.chunks
        assert not reply.ended
        return caught.value
