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
import base64
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fakes.faults import StreamFaults

NDJSON = "application/x-ndjson"
WHEN = "2026-08-21T18:48:22.196249Z"
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\nfake").decode()
_FLOATS = ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "typical_p")
_INTS = ("num_ctx", "num_predict", "top_k", "seed", "repeat_last_n", "num_keep")


@dataclass
class Model:
    """One installed model. `capabilities` None: a server before 0.6.4, which does not say."""

    name: str
    capabilities: tuple[str, ...] | None = ("completion",)
    context_length: int = 8192
    family: str = "llama"
    parameter_size: str = "135M"
    quantisation: str = "Q4_1"
    size: int = 98_362_432
    remote_host: str = ""

    @property
    def digest(self) -> str:
        return base64.b16encode(self.name.encode()).decode().lower().ljust(64, "0")[:64]

    @property
    def details(self) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameter_size,
            "quantization_level": self.quantisation,
        }

    def has(self, capability: str) -> bool:
        return self.capabilities is None or capability in self.capabilities


CHAT = Model("smollm2:135m", ("completion", "tools"))
THINKER = Model("qwen3.6:27b", ("completion", "tools", "thinking", "vision"), 262_144, "qwen3", "27B", "Q4_K_M")
EMBEDDER = Model("all-minilm:latest", ("embedding",), 512, "bert", "23M", "F16", 45_960_996)
PAINTER = Model("x/z-image-turbo:latest", ("image",), 0, "", "10.3B", "FP8", 12_000_000_000)


@dataclass
class Faults(StreamFaults):
    """`end_after`: the stream just ends. `shows_together`: the first `show` is answered when that many are asked."""

    end_after: int | None = None
    no_counts: bool = False
    show_fails: bool = False
    shows_together: int = 0
    show_hangs_after: int | None = None
    pull_dies: list[int] = field(default_factory=list)
    pull_error: str = ""


@dataclass
class OllamaServer:
    """`words`, `thoughts` and `calls` are what every chat is answered with. `library`: what can be pulled, in layers.

    `pulled` is how much of each layer is there already; it outlives a pull that broke off, as Ollama's partial
    blobs do.
    """

    models: list[Model] = field(default_factory=lambda: [CHAT, THINKER, EMBEDDER, PAINTER])
    version: str = "0.32.5"
    draws: bool = True
    words: tuple[str, ...] = ("Hello", " from", " Ollama\u2028\u0085!")
    thoughts: tuple[str, ...] = ("Let me", " think.")
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    done_reason: str = "stop"
    width: int = 4
    library: dict[str, dict[str, int]] = field(default_factory=dict)
    pulled: dict[str, int] = field(default_factory=dict)
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
        return JSONResponse({"models": [self._tag(model) for model in self.models]})

    def _tag(self, model: Model) -> dict[str, Any]:
        tag = {"name": model.name, "model": model.name, "modified_at": WHEN, "size": model.size}
        if model.remote_host:
            tag |= {"remote_model": model.name, "remote_host": model.remote_host}
        return {**tag, "digest": model.digest, "details": model.details}

    async def _ps(self, _: Request) -> Response:
        running = [self._tag(model) | {"size_vram": 1} for model in self.models if model.name in self.loaded]
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
            return _error(404, f"model '{body.get('model')}' not found")
        if self.faults.show_fails:
            return _error(500, "open /root/.ollama/models/blobs/sha256-x: no such file or directory")
        arch = model.family
        info = {"general.architecture": arch, f"{arch}.context_length": model.context_length}
        if "bert" in arch:
            info[f"{arch}.pooling_type"] = 1
        shown = {"modelfile": "FROM x", "template": "{{ .Prompt }}", "details": model.details, "modified_at": WHEN}
        shown["model_info"] = info if model.context_length else None
        return JSONResponse(shown if model.capabilities is None else {**shown, "capabilities": model.capabilities})

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
            return body, None, _error(status, busy if status == 503 else "llama runner process has terminated")
        model = self._model(body)
        if model is None:
            return body, None, _error(404, f"model '{body.get('model')}' not found")
        wrong = _wrong_option(body.get("options") or {})
        if wrong:
            return body, model, _error(500, wrong)
        await asyncio.sleep(self.faults.start_s)
        return body, model, None

    async def _chat(self, request: Request) -> Response:
        body, model, refused = await self._take(request)
        if refused or model is None:
            return refused or _error(500, "unreachable")
        if not model.has("completion"):
            return _error(400, f'"{model.name}" does not support chat')
        if body.get("tools") and not model.has("tools"):
            return _error(400, f"registry.ollama.ai/library/{model.name} does not support tools")
        if body.get("think") and not model.has("thinking"):
            return _error(400, f'"{model.name}" does not support thinking')
        return StreamingResponse(self._cut(self._chat_lines(body, model)), media_type=NDJSON)

    def _chat_lines(self, body: dict[str, Any], model: Model) -> list[dict[str, Any]]:
        thinks = model.has("thinking") and body.get("think") is not False and model.capabilities is not None
        said = [{"thinking": text} for text in self.thoughts] if thinks else []
        if self.calls and body.get("tools"):
            said += [{"tool_calls": [_call(number, *call)]} for number, call in enumerate(self.calls)]
        else:
            said += [{"content": word} for word in self.words]
        lines = [self._line(model, message, body) for message in said]
        counts = {"eval_count": len(said), "eval_duration": 40_000_000} | {"prompt_eval_count": 11}
        counts = {} if self.faults.no_counts else counts
        last = {"total_duration": 9_000_000_000, "load_duration": 2_500_000_000, "prompt_eval_duration": 7_000_000}
        done = {"done": True, "done_reason": self.done_reason, **last, **counts}
        return [*lines, self._line(model, {}, {}) | done]

    def _line(self, model: Model, message: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        line: dict[str, Any] = {"model": model.name, "created_at": WHEN}
        line["message"] = {"role": "assistant", "content": "", **message}
        line["done"] = False
        if body.get("logprobs"):
            token = {"token": message.get("content", ""), "logprob": -0.5, "bytes": [72]}
            line["logprobs"] = [{**token, "top_logprobs": [{"token": "x", "logprob": -1.5}]}]
        return line

    async def _embed(self, request: Request) -> Response:
        body, model, refused = await self._take(request)
        if refused or model is None:
            return refused or _error(500, "unreachable")
        inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if not all(isinstance(text, str) for text in inputs):
            return _error(400, "invalid input type")
        if body.get("truncate") is False and any(len(text) > model.context_length for text in inputs):
            return _error(400, "the input length exceeds the context length")
        rows = [[float(len(text) == n + 1) or 0.1 for n in range(self.width)] for text in inputs]
        said = {"model": model.name, "embeddings": rows, "total_duration": 5, "load_duration": 1_000_000}
        return JSONResponse(said if self.faults.no_counts else said | {"prompt_eval_count": 3 * len(inputs)})

    async def _generate(self, request: Request) -> Response:
        body, model, refused = await self._take(request)
        if refused or model is None:
            return refused or _error(500, "unreachable")
        if not self.draws:
            return _error(400, "image generation models are not currently supported")
        if max(body.get("width", 0), body.get("height", 0)) > 4096:
            return _error(400, "width and height must be <= 4096")
        head = {"model": model.name, "created_at": WHEN, "response": ""}
        steps = [{**head, "done": False, "completed": step, "total": 4} for step in range(1, 5)]
        last = {**head, "done": True, "done_reason": "stop", "image": PIXEL, "total_duration": 9}
        return StreamingResponse(self._cut([*steps, last]), media_type=NDJSON)

    async def _openai_images(self, request: Request) -> Response:
        body = await request.json()
        missing = "prompt is required" if not body.get("prompt") else "not used here"
        return JSONResponse({"error": {"message": missing, "type": "invalid_request_error"}}, status_code=400)

    async def _cut(self, lines: list[dict[str, Any]]) -> AsyncIterator[bytes]:
        """The lines as bytes, each in two packets; with the faults that are switched on."""
        ended = False
        try:
            for number, line in enumerate(lines):
                if number == self.faults.end_after:
                    ended = True
                    return
                if (fault := await self._fault(number)) is not None:
                    yield fault
                    ended = True
                    return
                data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                yield data[:17]
                await asyncio.sleep(0)
                yield data[17:]
            ended = True
        finally:
            if not ended:
                self.closed.set()

    async def _fault(self, number: int) -> bytes | None:
        error = b'{"error":"an error was encountered while running the model: CUDA error\\n  at ggml.cu:1"}\n'
        return await self.faults.at(number, garbled=b'{"model": "half a li\n', error=error)

    # --------------------------------------------------------------- lifecycle

    async def _pull(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(("/api/pull", body))
        name = body.get("model", "")
        if name not in self.library:
            return StreamingResponse(
                _lines([{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]),
                media_type=NDJSON,
            )
        return StreamingResponse(self._pulling(name), media_type=NDJSON)

    def _pull_hangs(self) -> bool:
        return self.faults.hang_after is not None and sum(self.pulled.values()) >= self.faults.hang_after

    async def _pulling(self, name: str) -> AsyncIterator[bytes]:
        ended = False
        dies = self.faults.pull_dies.pop(0) if self.faults.pull_dies else None
        try:
            yield _line({"status": "pulling manifest"})
            for digest, total in self.library[name].items():
                head = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total}
                yield _line(head)
                while self.pulled.get(digest, 0) < total:
                    await asyncio.sleep(0)
                    if dies is not None and sum(self.pulled.values()) >= dies:
                        raise ConnectionError("the connection was lost")
                    while self._pull_hangs():  # noqa: ASYNC110  # until a test's thread, which has no loop, lets go
                        await asyncio.sleep(0.02)
                    self.pulled[digest] = min(total, self.pulled.get(digest, 0) + 100)
                    yield _line(head | {"completed": self.pulled[digest]})
            yield _line({"status": "verifying sha256 digest"})
            if self.faults.pull_error:
                yield _line({"error": self.faults.pull_error})
                return
            yield _line({"status": "writing manifest"})
            self.models.append(Model(name))
            yield _line({"status": "success"})
            ended = True
        finally:
            if not ended:
                self.closed.set()

    async def _delete(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(("/api/delete", body))
        model = self._model(body)
        if model is None:
            return _error(404, f"model '{body.get('model')}' not found")
        self.models.remove(model)
        return Response(status_code=200)


def _wrong_option(options: dict[str, Any]) -> str:
    for name, value in options.items():
        if name in _INTS and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f'option "{name}" must be of type integer'
        if name in _FLOATS and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f'option "{name}" must be of type float32'
        if name == "stop" and not isinstance(value, list):
            return 'option "stop" must be of type array'
    return ""


def _call(number: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"call_{number:08x}", "function": {"index": 0, "name": name, "arguments": arguments}}


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


async def _lines(values: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    for value in values:
        yield _line(value)
