"""One embeddings job at Ollama (`POST /api/embed`). A long list goes in several requests, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np

from tasks.contract import Job, JsonObject, Timing, Usage
from worker.backends.base import Reply
from worker.backends.external.openai.alive import signs_of_life
from worker.backends.external.openai.usage import estimated
from worker.backends.external.product import Found, Served
from worker.backends.external.upstream import Patience, asked, document
from worker.backends.external.vectors import asked_for, rows, texts, written
from worker.embeddings.vectors import Floats

BATCH = 64
_OWN = ("keep_alive", "truncate", "options")  # Ollama's own fields, as they are
_MS = 1e6


async def serve_embeddings(
    http: httpx.AsyncClient, found: Found, served: Served, job: Job, reply: Reply, patience: Patience
) -> None:
    """Returns when the terminal event was given. Raises PendraError. Cancel-safe."""
    request = asked_for(job)
    inputs = texts(found, request)
    made: list[Floats] = []
    tokens, load_ms = 0, 0.0
    async with signs_of_life(reply):
        for part in _batches(inputs):
            said = await _embedded(http, found, _body(job, served, part), job, patience)
            made.append(rows(found, said.get("embeddings"), len(part)))
            tokens += _count(said, "prompt_eval_count")
            load_ms += _count(said, "load_duration") / _MS
            reply.progress("embedding", min(1.0, sum(map(len, made)) / len(inputs)))
    tokens = tokens or estimated(job.body, 0).prompt_tokens
    data = written(job, request, np.concatenate(made), tokens)
    timing = Timing(model_load_ms=round(load_ms, 3) if load_ms else None)
    reply.finish(data, usage=Usage(prompt_tokens=tokens), timing=timing)


async def _embedded(
    http: httpx.AsyncClient, found: Found, body: JsonObject, job: Job, patience: Patience
) -> JsonObject:
    async with asked(http, found, "POST", "/api/embed", patience=patience, model=job.model, json=body) as response:
        return await document(response, found, patience)


def _body(job: Job, served: Served, part: list[str]) -> JsonObject:
    own = {name: job.body[name] for name in _OWN if job.body.get(name) is not None}
    return {"model": served.name, "input": part, **own}


def _batches(inputs: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(inputs), BATCH):
        yield inputs[start : start + BATCH]


def _count(said: JsonObject, name: str) -> int:
    value = said.get(name)
    return value if isinstance(value, int) and value > 0 else 0
