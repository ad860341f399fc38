"""An Ollama server: its routes, shapes, status codes and chunks, over real HTTP; faults can be switched on.

Followed: ollama/ollama v0.33.0-rc2 (commit fb30760) — `server/routes.go` (routes, ChatHandler, EmbedHandler,
PullHandler, DeleteHandler, ShowHandler, streamResponse, handleScheduleError), `server/images.go` and
`server/download.go` (the lines of a pull), `api/types.go` (shapes; `omitempty` leaves out zeros and empty fields),
`docs/api.md`, `docs/api/errors.mdx`; and v0.32.5 for images (`handleImageGenerate`, middleware/openai.go), which
0.32.6 removed (`draws` False). Its quirks kept here: a model that thinks does so unless told otherwise, another
refuses `think`; an option of a wrong type is a 500; tool calls come whole, all with `index` 0; a prompt found
in the cache is not counted; an error in a stream is a line `{"error": …}`; a missing route is `404 page not found` in
plain text; pulls and chats stream NDJSON whose lines do not respect the edges of packets.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fakes.faults import StreamFaults
from tests.fakes.ollama_models import CHAT, EMBEDDER, PAINTER, THINKER, Model
from tests.fakes.ollama_pulls import Registry
from tests.fakes.ollama_shapes import Line, called, encoded, error, over, painted, said, shown, tag, wrong_option

NDJSON = "application/x-ndjson"


@dataclass
class Faults(StreamFaults):
    """`end_after`: the stream just ends. `shows_together`: the first `show` is answered when that many are asked."""

    end_after: int | None = None
    no_counts: bool = False
    show_fails: bool = False
    shows_together: int = 0
    show_hangs_after: int | None = None


@dataclass
class OllamaServer:
    """`words`, `thoughts` and `calls` are what every chat is answered with."""

    models: list[Model] = field(default_factory=lambda: [CHAT, THINKER, EMBEDDER, PAINTER])
    version: str = "0.32.5"
    draws: bool = True
    words: tuple[str, ...] = ("Hello", " from", " Ollama\u2028\u0085!")
    thoughts: tuple[str, ...] = ("Let me", " think.")
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    done_reason: str = "stop"
    width: int = 4
    registry: Registry = field(default_factory=Registry)
    loaded: set[str] = field(default_factory=set)
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    shows: int = 0
    most_shows: int = 0
    closed: threading.Event = field(default_factory=threading.Event)
    """A stream was closed by the client before its end."""
    _showing: int = 0
    _together: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self) -> Starlette:
        routes = [
            Route("/", lambda _: PlainTextResponse("Ollama is running")),
            Route("/api/version", lambda _: JSONResponse({"version": self.version})),
            Route("/api/tags", self._tags),
            Route("/api/ps", self._ps),
            Route("/api/show", self._show, methods=["POST"]),
            Route("/api/chat", self._chat, methods=["POST"]),
            Route("/api/embed", self._embed, methods=["POST"]),
            Route("/api/generate", self._generate, methods=["POST"]),
            Route("/api/pull", self._pull, methods=["POST"]),
            Route("/api/delete", self._delete, methods=["DELETE"]),
        ]
        if self.draws:
            routes.append(Route("/v1/images/generations", self._openai_images, methods=["POST"]))
        missing = {404: lambda *_: PlainTextResponse("404 page not found", status_code=404)}
        return Starlette(routes=routes, exception_handlers=missing)

    def sent(self, path: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.requests if asked == path]

    # ------------------------------------------------------------------ models

    async def _tags(self, _: Request) -> Response:
        return JSONResponse({"models": [tag(model) for model in self.models]})

    async def _ps(self, _: Request) -> Response:
        running = [tag(model) | {"size_vram": 1} for model in self.models if model.name in self.loaded]
        return JSONResponse({"models": running})

    async def _show(self, request: Request) -> Response:
        body = await request.json()
        self.shows += 1
        self._showing += 1
        self.most_shows = max(self.most_shows, self._showing)
        if self._showing >= self.faults.shows_together:
            self._together.set()
        await self._together.wait()
        if self.faults.show_hangs_after is not None and self.shows > self.faults.show_hangs_after:
            await asyncio.sleep(60)
        self._showing -= 1
        model = self._model(body)
        if model is None:
            return error(404, f"model '{body.get('model')}' not found")
        if self.faults.show_fails:
            return error(500, "open /root/.ollama/models/blobs/sha256-x: no such file or directory")
        return JSONResponse(shown(model))

    def _model(self, body: dict[str, Any]) -> Model | None:
        name = str(body.get("model") or body.get("name"))
        return next((model for model in self.models if model.name in (name, f"{name}:latest")), None)

    # --------------------------------------------------------------- inference

    async def _take(self, request: Request) -> tuple[dict[str, Any], Model | None, Response | None]:
        body = await request.json()
        self.requests.append((request.url.path, body))
        if self.faults.statuses:
            status = self.faults.statuses.pop(0)
            busy = "server busy, please try again.  maximum pending requests exceeded"
            return body, None, error(status, busy if status == 503 else "llama runner process has terminated")
        model = self._model(body)
        if model is None:
            return body, None, error(404, f"model '{body.get('model')}' not found")
        wrong = wrong_option(body.get("options") or {})
        if wrong:
            return body, model, error(500, wrong)
        await asyncio.sleep(self.faults.start_s)
        return body, model, None

    async def _chat(self, request: Request) -> Response:
        body, model, refused = await self._take(request)
        if refused or model is None:
            return refused or error(500, "unreachable")
        if not model.has("completion"):
            return error(400, f'"{model.name}" does not support chat')
        if body.get("tools") and not model.has("tools"):
            return error(400, f"registry.ollama.ai/library/{model.name} does not support tools")
        if body.get("think") and not model.has("thinking"):
            return error(400, f'"{model.name}" does not support thinking')
        return StreamingResponse(self._cut(self._chat_lines(body, model)), media_type=NDJSON)

    def _chat_lines(self, body: dict[str, Any], model: Model) -> list[Line]:
        thinks = model.has("thinking") and body.get("think") is not False and model.capabilities is not None
        messages: list[dict[str, Any]] = [{"thinking": text} for text in self.thoughts] if thinks else []
        if self.calls and body.get("tools"):
            messages += called(self.calls)
        else:
            messages += [{"content": word} for word in self.words]
        lines = [said(model, message, logprobs=bool(body.get("logprobs"))) for message in messages]
        return [*lines, over(model, self.done_reason, len(lines), counts=not self.faults.no_counts)]

    async def _embed(self, request: Request) -> Response:
        body, model, refused = await self._take(request)
        if refused or model is None:
            return refused or error(500, "unreachable")
        inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if not all(isinstance(text, str) for text in inputs):
            return error(400, "invalid input type")
        if body.get("truncate") is False and any(len(text) > model.context_length for text in inputs):
            return error(400, "the input length exceeds the context length")
        rows = [[float(len(text) == n + 1) or 0.1 for n in range(self.width)] for text in inputs]
        reply = {"model": model.name, "embeddings": rows, "total_duration": 5, "load_duration": 1_000_000}
        return JSONResponse(reply if self.faults.no_counts else reply | {"prompt_eval_count": 3 * len(inputs)})

    async def _generate(self, request: Request) -> Response:
        body, model, refused = await self._take(request)
        if refused or model is None:
            return refused or error(500, "unreachable")
        if not self.draws:
            return error(400, "image generation models are not currently supported")
        if max(body.get("width", 0), body.get("height", 0)) > 4096:
            return error(400, "width and height must be <= 4096")
        return StreamingResponse(self._cut(painted(model)), media_type=NDJSON)

    async def _openai_images(self, request: Request) -> Response:
        body = await request.json()
        missing = "prompt is required" if not body.get("prompt") else "not used here"
        return JSONResponse({"error": {"message": missing, "type": "invalid_request_error"}}, status_code=400)

    async def _cut(self, lines: list[Line]) -> AsyncIterator[bytes]:
        """The lines as bytes, each in two packets; with the faults that are switched on."""
        with self._stream():
            for number, line in enumerate(lines):
                if number == self.faults.end_after:
                    return
                if (fault := await self._fault(number)) is not None:
                    yield fault
                    return
                data = encoded(line)
                yield data[:17]
                await asyncio.sleep(0)
                yield data[17:]

    @contextmanager
    def _stream(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.closed.set()
            raise

    async def _fault(self, number: int) -> bytes | None:
        error = b'{"error":"an error was encountered while running the model: CUDA error\\n  at ggml.cu:1"}\n'
        return await self.faults.at(number, garbled=b'{"model": "half a li\n', error=error)

    # --------------------------------------------------------------- lifecycle

    async def _pull(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(("/api/pull", body))
        return StreamingResponse(self._pulling(body.get("model", "")), media_type=NDJSON)

    async def _pulling(self, name: str) -> AsyncIterator[bytes]:
        with self._stream():
            async with aclosing(self.registry.pull(name)) as lines:
                async for line in lines:
                    if line.get("status") == "success":
                        self.models.append(Model(name))
                    yield encoded(line)

    async def _delete(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(("/api/delete", body))
        model = self._model(body)
        if model is None:
            return error(404, f"model '{body.get('model')}' not found")
        self.models.remove(model)
        return Response(status_code=200)
