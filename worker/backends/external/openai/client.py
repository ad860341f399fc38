"""Chat, completions and embeddings of a server with OpenAI's API, as jobs.

job ─► the server's dialect ─► POST ─► events or one body ─► our shape ─► the job's reply
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import httpx

from tasks.contract import Job, JobKind, JsonObject
from tasks.errors import BadRequestError, PendraError, WorkerError
from worker.backends.base import Reply
from worker.backends.external.faults import LABELS, faulty
from worker.backends.external.openai.alive import EVERY_S, signs_of_life
from worker.backends.external.openai.shape import StreamShaper, whole_chat, whole_embeddings
from worker.backends.external.openai.sse import EventTooLargeError, SseParser
from worker.backends.external.openai.usage import Stopwatch
from worker.backends.external.product import Found
from worker.backends.external.upstream import PATIENCE, Patience, asked, document, pieces

PATHS = {
    JobKind.CHAT: "/v1/chat/completions",
    JobKind.COMPLETION: "/v1/completions",
    JobKind.EMBEDDINGS: "/v1/embeddings",
}
_OURS = ("pendra", "options")  # fields of our API that no such server knows

Dialect = Callable[[JsonObject], JsonObject]


class OpenAIClient:
    """Stateless. `dialect` turns a request's body into what the server understands.

    It gets a copy and may change it; `model` and `stream` are set after it.
    """

    def __init__(
        self, *, dialect: Dialect = dict, patience: Patience = PATIENCE, alive_every_s: float = EVERY_S
    ) -> None:
        self._dialect = dialect
        self._patience = patience
        self._alive_every_s = alive_every_s

    async def serve(self, http: httpx.AsyncClient, found: Found, model: str, job: Job, reply: Reply) -> None:
        """Run a job of one of the kinds in PATHS; `model` is the server's own name of it.

        Returns when the terminal event was given. Raises PendraError when nothing was replied yet. Cancel-safe.
        """
        path = self._path(found, job)
        body = self._body(job, model)
        watch = Stopwatch()
        async with (
            signs_of_life(reply, self._alive_every_s),
            asked(http, found, "POST", path, patience=self._patience, model=job.model, json=body) as response,
        ):
            if job.stream:
                await self._stream(response, _Asked(found, job, reply, watch))
            else:
                await self._whole(response, _Asked(found, job, reply, watch))

    def _path(self, found: Found, job: Job) -> str:
        label, path = LABELS[found.product], PATHS.get(job.kind)
        if path is None:
            raise BadRequestError(f"{label} does not serve {job.kind}", code="wrong_capability", param="model")
        if job.resume is not None and job.resume.token_ids:
            raise WorkerError(f"{label} cannot go on with a reply that another worker began")
        return path

    def _body(self, job: Job, model: str) -> JsonObject:
        body = self._dialect({name: value for name, value in job.body.items() if name not in _OURS})
        body["model"] = model
        if job.kind is JobKind.EMBEDDINGS:
            return body
        body["stream"] = job.stream
        body.pop("stream_options", None)
        if job.stream:
            body["stream_options"] = {"include_usage": True}
        return body

    async def _whole(self, response: httpx.Response, ask: _Asked) -> None:
        said = await document(response, ask.found, self._patience)
        if ask.job.kind is JobKind.EMBEDDINGS:
            data, usage = whole_embeddings(ask.found, ask.job, said)
            ask.reply.finish(data, usage=usage)
        else:
            data, usage = whole_chat(ask.found, ask.job, said)
            ask.reply.finish(data, usage=usage, timing=ask.watch.whole(usage.completion_tokens))

    async def _stream(self, response: httpx.Response, ask: _Asked) -> None:
        shaper = StreamShaper(ask.found, ask.job, ask.watch)
        told = False
        try:
            async with aclosing(self._shaped(response, ask.found, shaper)) as texts:
                async for text in texts:
                    if not ask.reply.chunk(text, None):
                        return  # it was ended elsewhere; leaving closes the request
                    told = True
            last, usage = shaper.end()
        except PendraError as error:
            if not told:
                raise
            ask.reply.fail(error)
            return
        for text in last:
            ask.reply.chunk(text, None)
        ask.reply.finish(usage=usage, timing=ask.watch.timing(usage.completion_tokens))

    async def _shaped(self, response: httpx.Response, found: Found, shaper: StreamShaper) -> AsyncGenerator[str]:
        """The chunks for the client, until the server says that this was all, or closes."""
        parser = SseParser()
        async with aclosing(pieces(response, found, self._patience)) as body:
            async for piece in body:
                for data in _events(parser, piece, found):
                    for text in shaper.feed(data):
                        yield text
                if shaper.done:
                    return
        for data in parser.close():
            for text in shaper.feed(data):
                yield text


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request under way."""

    found: Found
    job: Job
    reply: Reply
    watch: Stopwatch


def _events(parser: SseParser, piece: bytes, found: Found) -> list[str]:
    try:
        return parser.feed(piece)
    except EventTooLargeError:
        raise faulty(found, "sent an event without an end") from None
