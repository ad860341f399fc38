"""Speaches as a backend."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import replace
from urllib.parse import quote

import httpx

from tasks.contract import Job, JobKind
from tasks.errors import BadRequestError
from worker.backends.base import Reply
from worker.backends.external.faults import LABELS, faulty
from worker.backends.external.openai.alive import EVERY_S, signs_of_life
from worker.backends.external.probing import look
from worker.backends.external.product import Found, NotFoundHere, ProductName, PullProgress, Served
from worker.backends.external.speaches.audio import speech_body, spoken, transcribed, transcription_form
from worker.backends.external.speaches.listing import rows_of, served, version_of
from worker.backends.external.upstream import PATIENCE, Patience, asked, pieces

_MOST_BYTES = 45 * 1024 * 1024  # of audio, so that it fits a reply in base64
_DOWNLOAD_S = 4 * 3600.0  # it answers when the download is complete, and says nothing until then


class Speaches:
    """As `Product`. It loads a model at its first use and unloads it by itself."""

    name = ProductName.SPEACHES
    default_port = 8000
    kinds = frozenset({JobKind.TRANSCRIPTION, JobKind.SPEECH})
    installs = True
    uninstalls = True

    def __init__(self, *, patience: Patience = PATIENCE, alive_every_s: float = EVERY_S) -> None:
        self._patience = replace(patience, first_s=max(patience.first_s, 600.0))  # a long recording takes minutes
        self._alive_every_s = alive_every_s

    async def probe(self, http: httpx.AsyncClient, url: str) -> Found:
        began = time.monotonic()
        rows = rows_of(await look(http, url, "/v1/models"))
        latency_ms = round(1000 * (time.monotonic() - began), 3)
        version = await _version(http, url)
        if not rows and version is None:
            raise NotFoundHere("GET /v1/models lists nothing, and GET /openapi.json does not say that it is Speaches")
        return Found(self.name, url, version or "", latency_ms)

    async def models(self, http: httpx.AsyncClient, found: Found) -> tuple[Served, ...]:
        return served(rows_of(await look(http, found.url, "/v1/models")))

    async def serve(self, http: httpx.AsyncClient, found: Found, model: Served, job: Job, reply: Reply) -> None:
        async with signs_of_life(reply, self._alive_every_s):
            if job.kind is JobKind.TRANSCRIPTION:
                reply.finish(await self._transcribed(http, found, model, job))
            elif job.kind is JobKind.SPEECH:
                reply.finish(await self._spoken(http, found, model, job))
            else:
                label = LABELS[found.product]
                raise BadRequestError(f"{label} does not serve {job.kind}", code="wrong_capability", param="model")

    async def _transcribed(self, http: httpx.AsyncClient, found: Found, model: Served, job: Job) -> str:
        form = transcription_form(job, model.name)
        path = "/v1/audio/transcriptions"
        async with asked(http, found, "POST", path, patience=self._patience, model=model.info.id, **form) as response:
            return transcribed(found, job, await self._all(response, found))

    async def _spoken(self, http: httpx.AsyncClient, found: Found, model: Served, job: Job) -> str:
        body = speech_body(job, model.name)
        async with asked(
            http, found, "POST", "/v1/audio/speech", patience=self._patience, model=model.info.id, json=body
        ) as response:
            audio = await self._all(response, found)
            if not audio:
                raise faulty(found, "sent no audio")
            return spoken(audio, response.headers.get("content-type", "application/octet-stream"))

    async def _all(self, response: httpx.Response, found: Found) -> bytes:
        body = bytearray()
        async with aclosing(pieces(response, found, self._patience)) as parts:
            async for part in parts:
                body += part
                if len(body) > _MOST_BYTES:
                    raise faulty(found, f"sent a reply of more than {_MOST_BYTES >> 20} MiB")
        return bytes(body)

    # ---------------------------------------------------------------- its models

    async def install(self, http: httpx.AsyncClient, found: Found, model: str, progress: PullProgress) -> None:
        """Speaches tells no progress: only that it began, and that it is done."""
        progress("download", 0, None)
        patience = replace(self._patience, first_s=_DOWNLOAD_S, pauses_s=())
        async with asked(http, found, "POST", _path(model), patience=patience, model=model):
            pass

    async def uninstall(self, http: httpx.AsyncClient, found: Found, model: str) -> None:
        async with asked(http, found, "DELETE", _path(model), patience=self._patience, model=model):
            pass


async def _version(http: httpx.AsyncClient, url: str) -> str | None:
    """None where the server's OpenAPI document is not Speaches', or not there."""
    try:
        return version_of(await look(http, url, "/openapi.json"))
    except NotFoundHere:
        return None


def _path(model: str) -> str:
    return f"/v1/models/{quote(model, safe='/')}"
