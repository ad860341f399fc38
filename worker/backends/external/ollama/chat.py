"""One chat job at Ollama: our request as its own, its lines as our chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import httpx

from tasks.contract import Job, JsonObject
from tasks.errors import PendraError, WorkerError
from worker.backends.base import Reply
from worker.backends.external.faults import faulty
from worker.backends.external.ollama.reply import ChatShaper
from worker.backends.external.ollama.request import chat_body, promises_json
from worker.backends.external.openai.alive import signs_of_life
from worker.backends.external.openai.usage import Stopwatch
from worker.backends.external.product import Found, Served
from worker.backends.external.upstream import Patience, asked, lines, parsed


@dataclass(frozen=True, slots=True)
class _Asked:
    found: Found
    job: Job
    reply: Reply
    shaper: ChatShaper


async def serve_chat(
    http: httpx.AsyncClient, found: Found, served: Served, job: Job, reply: Reply, patience: Patience
) -> None:
    """Returns when the terminal event was given. Raises PendraError when nothing was replied yet. Cancel-safe."""
    if job.resume is not None and job.resume.token_ids:
        raise WorkerError("Ollama cannot go on with a reply that another worker began")
    body = chat_body(job.body, served)
    shaper = ChatShaper(found, job, Stopwatch(), wants_json=promises_json(body))
    async with (
        signs_of_life(reply),
        asked(http, found, "POST", "/api/chat", patience=patience, model=job.model, json=body) as response,
        aclosing(objects(response, found, patience)) as said,
    ):
        await _relay(said, _Asked(found, job, reply, shaper))


async def _relay(said: AsyncGenerator[JsonObject], ask: _Asked) -> None:
    """Line by line until the last, which says `done`."""
    told = False
    try:
        async for line in said:
            for text in ask.shaper.feed(line):
                if not ask.reply.chunk(text, None):
                    return  # it was ended elsewhere; leaving closes the request
                told = True
            if ask.shaper.done:
                break
        if not ask.shaper.done:
            raise faulty(ask.found, "ended its reply in the middle")
    except PendraError as error:
        if not told:
            raise
        ask.reply.fail(error)
        return
    _finish(ask)


def _finish(ask: _Asked) -> None:
    shaper, data = ask.shaper, None
    if ask.job.stream:
        for text in shaper.ending():
            ask.reply.chunk(text, None)
    else:
        data = shaper.whole()
    ask.reply.finish(data, usage=shaper.usage, timing=shaper.timing, notice=shaper.notice)


async def objects(response: httpx.Response, found: Found, patience: Patience) -> AsyncGenerator[JsonObject]:
    """The lines of a streamed reply, read. Raises PendraError `backend_error`: broken off, silent, not JSON."""
    async with aclosing(lines(response, found, patience)) as body:
        async for line in body:
            yield parsed(line, found)
