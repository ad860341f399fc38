"""A vLLM server: its routes, shapes, status codes and chunks, over real HTTP; faults can be switched on.

Followed: vLLM 0.11–0.15, `vllm/entrypoints/openai/` — `api_server.py` (`/version`, `/health`, routers by supported
task), `engine/protocol.py` (`ModelCard`, `ErrorResponse`, `UsageInfo`), `chat_completion/` (stream: an opening chunk
with the role, `reasoning` or, older, `reasoning_content`, usage on a chunk with empty `choices` only when asked for
by `stream_options`, `[DONE]`), `pooling/embed/`. Its quirks kept here: fields that were not set are left out of
chunks; 404 with `NotFoundError` for an unknown model; a body that does not validate is a 400 whose message quotes the
whole input; an error in a stream is an event, followed by `[DONE]`.
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

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"


@dataclass
class Faults(StreamFaults):
    no_usage: bool = False
    no_done: bool = False
    page: bool = False


@dataclass
class VllmServer:
    """`task`: `generate` or `embed`; `documented` False: started with --disable-fastapi-docs."""

    model: str = "Qwen/Qwen2.5-7B-Instruct"
    task: str = "generate"
    version: str = "0.15.1"
    max_model_len: int = 32768
    documented: bool = True
    old: bool = False
    words: tuple[str, ...] = ("Hello", " from", " vLLM")
    thoughts: tuple[str, ...] = ()
    tool_call: dict[str, Any] | None = None
    faults: Faults = field(default_factory=Faults)
    requests: list[dict[str, Any]] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)
    """A stream was closed by the client before its end."""

    def app(self) -> Starlette:
        routes = [
            Route("/health", lambda _: Response(status_code=200)),
            Route("/version", self._version),
            Route("/v1/models", self._models),
        ]
        generate = [Route(CHAT, self._chat, methods=["POST"]), Route(COMPLETIONS, self._completion, methods=["POST"])]
        embed = [Route(EMBEDDINGS, self._embeddings, methods=["POST"])]
        by_task = generate if self.task == "generate" else embed
        routes += [*generate, *embed] if self.old else by_task
        if self.documented:
            self._paths = {route.path: {} for route in routes}
            routes.append(Route("/openapi.json", self._openapi))
        return Starlette(routes=routes)

    async def _openapi(self, _: Request) -> Response:
        return JSONResponse({"openapi": "3.1.0", "info": {"title": "FastAPI"}, "paths": self._paths})

    async def _version(self, _: Request) -> Response:
        return JSONResponse({"version": self.version})

    async def _models(self, _: Request) -> Response:
        permission = {"id": "modelperm-1", "object": "model_permission", "allow_sampling": True, "organization": "*"}
        card = {
            "id": self.model,
            "object": "model",
            "created": 1_760_000_000,
            "owned_by": "vllm",
            "root": self.model,
            "parent": None,
            "max_model_len": self.max_model_len,
            "permission": [permission],
        }
        return JSONResponse({"object": "list", "data": [card]})

    async def _take(self, request: Request, needed: str) -> tuple[dict[str, Any], Response | None]:
        body = await request.json()
        self.requests.append(body)
        if self.faults.page:
            return body, Response("<html><body>502</body></html>", status_code=502, media_type="text/html")
        if self.faults.statuses:
            status = self.faults.statuses.pop(0)
            return body, _error(status, "EngineCore encountered an issue.\nTraceback (most recent call last):\n  x")
        if needed not in body:
            found = {"type": "missing", "loc": ("body", needed), "msg": "Field required", "input": body}
            quoted = f"1 validation error:\n  {found}"
            return body, _error(400, quoted)
        if body.get("model") != self.model:
            return body, _error(404, f"The model `{body.get('model')}` does not exist.", "NotFoundError", "model")
        await asyncio.sleep(self.faults.start_s)
        return body, None

    async def _chat(self, request: Request) -> Response:
        body, refused = await self._take(request, "messages")
        if refused:
            return refused
        if self.task != "generate":
            return _error(400, "The model does not support Chat Completions API")
        if not body["messages"]:
            return _error(400, "list index out of range")
        if len(json.dumps(body["messages"])) > 4 * self.max_model_len:
            return _error(400, f"This model's maximum context length is {self.max_model_len} tokens.")
        if body.get("stream"):
            return StreamingResponse(
                self._events(body, self._deltas()), media_type="text/event-stream; charset=utf-8"
            )
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.words), "tool_calls": []}
        if self.thoughts:
            message["reasoning_content" if self.old else "reasoning"] = "".join(self.thoughts)
        if self.tool_call:
            message |= {"content": None, "tool_calls": [self.tool_call]}
        reason = "tool_calls" if self.tool_call else "stop"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason, "stop_reason": None}
        return self._answer("chat.completion", [choice])

    def _deltas(self) -> list[dict[str, Any]]:
        thought = "reasoning_content" if self.old else "reasoning"
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{thought: text} for text in self.thoughts]
        if self.tool_call:
            return [*deltas, {"tool_calls": [{"index": 0, **self.tool_call}]}]
        return deltas + [{"content": word} for word in self.words]

    async def _completion(self, request: Request) -> Response:
        _, refused = await self._take(request, "prompt")
        if refused:
            return refused
        choice = {"index": 0, "text": "".join(self.words), "logprobs": None, "finish_reason": "length"}
        return self._answer("text_completion", [choice])

    async def _embeddings(self, request: Request) -> Response:
        body, refused = await self._take(request, "input")
        if refused:
            return refused
        if self.task != "embed":
            return _error(400, "The model does not support Embeddings API")
        inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
        rows = [{"index": i, "object": "embedding", "embedding": [0.5, -0.5, i]} for i in range(len(inputs))]
        usage = {"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0, "prompt_tokens_details": None}
        return JSONResponse({"id": "embd-1", "object": "list", "model": self.model, "data": rows, "usage": usage})

    def _answer(self, kind: str, choices: list[dict[str, Any]]) -> Response:
        body = {"id": "chatcmpl-1", "object": kind, "created": 1, "model": self.model, "choices": choices}
        usage = {} if self.faults.no_usage else {"usage": self._usage()}
        return JSONResponse({**body, **usage, "prompt_logprobs": None, "kv_transfer_params": None})

    def _usage(self) -> dict[str, Any]:
        tokens = len(self.words) + len(self.thoughts)
        details = {"prompt_tokens_details": {"cached_tokens": 4}}
        return {"prompt_tokens": 11, "total_tokens": 11 + tokens, "completion_tokens": tokens, **details}

    async def _events(self, body: dict[str, Any], deltas: list[dict[str, Any]]) -> AsyncIterator[str]:
        ended = False
        try:
            for number, delta in enumerate(deltas):
                await asyncio.sleep(0)
                if (fault := await self._fault(number)) is not None:
                    yield fault
                    if number == self.faults.error_after:
                        yield "data: [DONE]\n\n"
                        ended = True
                        return
                yield self._event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])
            reason = "tool_calls" if self.tool_call else "stop"
            yield self._event([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}])
            if (body.get("stream_options") or {}).get("include_usage") and not self.faults.no_usage:
                yield self._event([], usage=self._usage())
            if not self.faults.no_done:
                yield "data: [DONE]\n\n"
            ended = True
        finally:
            if not ended:
                self.closed.set()

    async def _fault(self, number: int) -> str | None:
        error = {"message": "EngineCore died\nTraceback (most recent call last)", "type": "x", "code": 500}
        garbled = 'data: {"id": "chatcmpl-1", "choi\n\n'
        return await self.faults.at(number, garbled=garbled, error=f"data: {json.dumps({'error': error})}\n\n")

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> str:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.model}
        return f"data: {json.dumps({**head, 'choices': choices, **more})}\n\n"


def _error(status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> Response:
    error = {"message": message, "type": kind, "param": param, "code": status}
    return JSONResponse({"error": error}, status_code=status)
