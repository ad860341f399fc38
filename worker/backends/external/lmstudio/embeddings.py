"""One embeddings job at LM Studio. It answers with numbers whatever the encoding asked for, counts no tokens and
cuts nothing (docs: REST API v0, `POST /v1/embeddings`), so that is done here."""

from __future__ import annotations

from typing import Any

import httpx

from tasks.contract import Job, Usage
from worker.backends.base import Reply
from worker.backends.external.faults import faulty
from worker.backends.external.openai.alive import signs_of_life
from worker.backends.external.openai.usage import estimated, read_usage
from worker.backends.external.product import Found, Served
from worker.backends.external.upstream import Patience, asked, document
from worker.backends.external.vectors import asked_for, rows, texts, written

_PATH = "/v1/embeddings"


async def serve_embeddings(
    http: httpx.AsyncClient, found: Found, served: Served, job: Job, reply: Reply, patience: Patience
) -> None:
    """Returns when the terminal event was given. Raises PendraError. Cancel-safe."""
    request = asked_for(job)
    inputs = texts(found, request)
    body = {"model": served.name, "input": inputs}
    async with (
        signs_of_life(reply),
        asked(http, found, "POST", _PATH, patience=patience, model=job.model, json=body) as response,
    ):
        said = await document(response, found, patience)
    made = rows(found, _vectors(found, said.get("data")), len(inputs))
    counted = read_usage(said.get("usage")) or estimated(job.body, 0)
    data = written(job, request, made, counted.prompt_tokens)
    reply.finish(data, usage=Usage(prompt_tokens=counted.prompt_tokens))


def _vectors(found: Found, data: Any) -> list[Any]:
    """The vectors in the order of the inputs."""
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise faulty(found, "sent a reply without embeddings")
    numbered = [row if isinstance(row.get("index"), int) else {**row, "index": at} for at, row in enumerate(data)]
    return [row.get("embedding") for row in sorted(numbered, key=lambda row: row["index"])]
