"""An LM Studio server: its routes, shapes, status codes and events, over real HTTP; faults can be switched on.

Followed: lmstudio-ai/docs at c6854fb (April 2026, LM Studio 0.4) — `1_developer/2_rest/endpoints.mdx` (`/api/v0`),
`list.md`, `download.md`, `download-status.md` (`/api/v1`), `3_openai-compat/*.md`, `api-changelog.md`; and for what
the documentation does not show lmstudio-ai/lmstudio-bug-tracker: a path it does not know is answered 200 with
`{"error": "Unexpected endpoint or method. (…)"}` (618, 1323); `json_object` is refused (189); chunks carry the role
in every delta and thinking as `reasoning_content` (378); no model loaded is a 404 (lms 107, tracker 1730). Its other
quirks kept here: embeddings are numbers whatever encoding was asked for and are not counted; without just-in-time
loading only loaded models are listed (816); usage comes on a stream only when asked for.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fakes.faults import StreamFaults

CHAT_PATH, EMBED_PATH, DOWNLOAD_PATH = "/v1/chat/completions", "/v1/embeddings", "/api/v1/models/download"


@dataclass
class Model:
    id: str
    type: str = "llm"
    arch: str = "llama"
    quantisation: str = "Q4_K_M"
    max_context: int = 131_072
    loaded_context: int = 0
    tools: bool = False
    thinks: bool = False
    size: int = 4_000_000_000
    params: str | None = "8B"

    def v0(self) -> dict[str, Any]:
        row: dict[str, Any] = {"id": self.id, "object": "model", "type": self.type, "publisher": "lmstudio-community"}
        row |= {"arch": self.arch, "compatibility_type": "gguf", "quantization": self.quantisation}
        row |= {"state": "loaded" if self.loaded_context else "not-loaded", "max_context_length": self.max_context}
        if self.loaded_context:
            row["loaded_context_length"] = self.loaded_context
        return row | ({"capabilities": ["tool_use"]} if self.tools else {})

    def v1(self) -> dict[str, Any]:
        embeds = self.type == "embeddings"
        row: dict[str, Any] = {"type": "embedding" if embeds else "llm", "publisher": "x", "key": self.id}
        row |= {"display_name": self.id, "quantization": {"name": self.quantisation, "bits_per_weight": 4}}
        row |= {"size_bytes": self.size, "params_string": self.params, "max_context_length": self.max_context}
        loaded = [{"id": self.id, "config": {"context_length": self.loaded_context}}] if self.loaded_context else []
        row |= {"loaded_instances": loaded, "format": "gguf"}
        if embeds:
            return row
        can: dict[str, Any] = {"vision": self.type == "vlm", "trained_for_tool_use": self.tools}
        if self.thinks:
            can["reasoning"] = {"allowed_options": ["off", "on"], "default": "on"}
        return row | {"architecture": self.arch, "capabilities": can, "description": None}


LLAMA = Model("meta-llama-3.1-8b-instruct", tools=True)
GEMMA = Model("google/gemma-4-26b-a4b", "vlm", "gemma4", max_context=262_144, loaded_context=4096, thinks=True)
NOMIC = Model("text-embedding-nomic-embed-text-v1.5", "embeddings", "nomic-bert", "Q4_0", 2048, params=None)


@dataclass
class Faults(StreamFaults):
    status_misses: int = 0
    download_fails: bool = False
    no_job: bool = False


@dataclass
class LmStudioServer:
    """`newer` False: before 0.4, without `/api/v1`. `catalogue`: what can be downloaded, and its size."""

    models: list[Model] = field(default_factory=lambda: [LLAMA, GEMMA, NOMIC])
    newer: bool = True
    words: tuple[str, ...] = ("Hello", " from", " LM Studio")
    thoughts: tuple[str, ...] = ()
    catalogue: dict[str, int] = field(default_factory=dict)
    step: int = 400
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    polls: int = 0
    closed: threading.Event = field(default_factory=threading.Event)
    """A stream was closed by the client before its end."""
    _jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def app(self) -> Starlette:
        routes = [
            Route("/api/v0/models", self._v0),
            Route("/v1/models", self._openai_models),
            Route(CHAT_PATH, self._chat, methods=["POST"]),
            Route(EMBED_PATH, self._embeddings, methods=["POST"]),
        ]
        if self.newer:
            routes += [
                Route("/api/v1/models", self._v1),
                Route(DOWNLOAD_PATH, self._download, methods=["POST"]),
                Route(DOWNLOAD_PATH + "/status/{job}", self._status),
            ]
        every = ["GET", "POST", "PUT", "DELETE", "PATCH"]
        return Starlette(routes=[*routes, Route("/{path:path}", _unexpected, methods=every)])

    def sent(self, path: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.requests if asked == path]

    async def _v0(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model.v0() for model in self.models]})

    async def _v1(self, _: Request) -> Response:
        return JSONResponse({"models": [model.v1() for model in self.models]})

    async def _openai_models(self, _: Request) -> Response:
        rows = [{"id": model.id, "object": "model", "owned_by": "organization_owner"} for model in self.models]
        return JSONResponse({"data": rows, "object": "list"})

    # -------------------------------------------------------------------- work

    async def _take(self, request: Request) -> tuple[dict[str, Any], Response | None]:
        body = await request.json()
        self.requests.append((request.url.path, body))
        if self.faults.statuses:
            trace = "Failed to load model\n    at _0x3f.load (/app/.webpack/lib/llmworker.js:85:14107)"
            return body, _error(self.faults.statuses.pop(0), trace)
        if body.get("model") not in {model.id for model in self.models}:
            words = "No models loaded. Please load a model in the developer page or use the 'lms load' command."
            return body, _error(404, words)
        kind = (body.get("response_format") or {}).get("type")
        if kind not in (None, "json_schema", "text"):
            return body, JSONResponse({"error": "'response_format.type' must be 'json_schema' or 'text'"}, 400)
        await asyncio.sleep(self.faults.start_s)
        return body, None

    async def _chat(self, request: Request) -> Response:
        body, refused = await self._take(request)
        if refused:
            return refused
        thoughts = () if body.get("reasoning_effort") == "none" else self.thoughts
        if body.get("stream"):
            return StreamingResponse(self._events(body, thoughts), media_type="text/event-stream")
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.words), "tool_calls": []}
        if thoughts:
            message["reasoning_content"] = "".join(thoughts)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        whole = self._head(body, "chat.completion") | {"choices": [choice], "usage": self._usage(thoughts)}
        return JSONResponse(whole | {"stats": {}})

    def _head(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-x", "object": kind, "created": 1, "model": body["model"], "system_fingerprint": "x"}

    def _usage(self, thoughts: tuple[str, ...]) -> dict[str, Any]:
        made = len(self.words) + len(thoughts)
        usage: dict[str, Any] = {"prompt_tokens": 24, "completion_tokens": made, "total_tokens": 24 + made}
        return usage | {"completion_tokens_details": {"reasoning_tokens": len(thoughts)}}

    async def _events(self, body: dict[str, Any], thoughts: tuple[str, ...]) -> AsyncIterator[str]:
        deltas = [{"reasoning_content": text} for text in thoughts] + [{"content": word} for word in self.words]
        ended = False
        try:
            for number, delta in enumerate(deltas):
                await asyncio.sleep(0)
                if (fault := await self._fault(number)) is not None:
                    ended = True
                    yield fault
                    return
                yield self._event(body, {"role": "assistant", **delta}, None)
            yield self._event(body, {}, "stop")
            if (body.get("stream_options") or {}).get("include_usage"):
                last = self._head(body, "chat.completion.chunk") | {"choices": [], "usage": self._usage(thoughts)}
                yield f"data: {json.dumps(last)}\n\n"
            yield "data: [DONE]\n\n"
            ended = True
        finally:
            if not ended:
                self.closed.set()

    def _event(self, body: dict[str, Any], delta: dict[str, Any], reason: str | None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return f"data: {json.dumps(self._head(body, 'chat.completion.chunk') | {'choices': [choice]})}\n\n"

    async def _fault(self, number: int) -> str | None:
        error = f"event: error\ndata: {json.dumps({'error': {'message': 'The model has crashed'}})}\n\n"
        return await self.faults.at(number, garbled='data: {"id": "chatcm\n\n', error=error)

    async def _embeddings(self, request: Request) -> Response:
        body, refused = await self._take(request)
        if refused:
            return refused
        rows = [
            {"object": "embedding", "embedding": [float(len(text)), 2.0, 0.5], "index": index}
            for index, text in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return JSONResponse({"object": "list", "data": rows[::-1], "model": f"{body['model']}@q4_0", "usage": usage})

    # --------------------------------------------------------------- lifecycle

    async def _download(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append((DOWNLOAD_PATH, body))
        name = body["model"]
        if any(model.id == name for model in self.models):
            return JSONResponse({"status": "already_downloaded"})
        if name not in self.catalogue:
            return _error(404, f"Could not find a model named {name}")
        job = {"job_id": f"job_{len(self._jobs)}", "status": "downloading", "total_size_bytes": self.catalogue[name]}
        job |= {"started_at": "2025-10-03T15:33:23.496Z"}
        self._jobs[job["job_id"]] = {**job, "downloaded_bytes": 0, "name": name}
        return JSONResponse(
            {name: value for name, value in job.items() if name != "job_id" or not self.faults.no_job}
        )

    async def _status(self, request: Request) -> Response:
        self.polls += 1
        job = self._jobs.get(request.path_params["job"])
        if job is None or self.faults.status_misses:
            self.faults.status_misses = max(0, self.faults.status_misses - 1)
            return _error(500 if job else 404, "not now")
        if self.faults.download_fails:
            job["status"] = "failed"
        elif job["downloaded_bytes"] >= job["total_size_bytes"]:
            job["status"] = "completed"
            self.models.append(Model(job["name"]))
        else:
            job["downloaded_bytes"] = min(job["total_size_bytes"], job["downloaded_bytes"] + self.step)
        return JSONResponse({name: value for name, value in job.items() if name != "name"})


async def _unexpected(request: Request) -> Response:
    return JSONResponse({"error": f"Unexpected endpoint or method. ({request.method} {request.url.path})"})


def _error(status: int, message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": "model", "code": None}
    return JSONResponse({"error": error}, status_code=status)
