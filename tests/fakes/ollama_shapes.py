"""What an Ollama server says: its JSON, as `api/types.go` has it. Pure; see `tests.fakes.ollama_server`."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from tests.fakes.ollama_models import Model

WHEN = "2026-08-21T18:48:22.196249Z"
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\nfake").decode()
_FLOATS = ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "typical_p")
_INTS = ("num_ctx", "num_predict", "top_k", "seed", "repeat_last_n", "num_keep")

Line = dict[str, Any]


def error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)


def encoded(line: Line) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def tag(model: Model) -> dict[str, Any]:
    """A row of a listing."""
    row = {"name": model.name, "model": model.name, "modified_at": WHEN, "size": model.size}
    if model.remote_host:
        row |= {"remote_model": model.name, "remote_host": model.remote_host}
    return {**row, "digest": model.digest, "details": model.details}


def shown(model: Model) -> dict[str, Any]:
    """The answer to `/api/show`."""
    arch = model.family
    info = {"general.architecture": arch, f"{arch}.context_length": model.context_length}
    if "bert" in arch:
        info[f"{arch}.pooling_type"] = 1
    facts = {"modelfile": "FROM x", "template": "{{ .Prompt }}", "details": model.details, "modified_at": WHEN}
    facts["model_info"] = info if model.context_length else None
    return facts if model.capabilities is None else {**facts, "capabilities": model.capabilities}


def said(model: Model, message: dict[str, Any], *, logprobs: bool = False) -> Line:
    """A line of a chat."""
    line: Line = {"model": model.name, "created_at": WHEN}
    line["message"] = {"role": "assistant", "content": "", **message}
    line["done"] = False
    if logprobs:
        token = {"token": message.get("content", ""), "logprob": -0.5, "bytes": [72]}
        line["logprobs"] = [{**token, "top_logprobs": [{"token": "x", "logprob": -1.5}]}]
    return line


def over(model: Model, reason: str, lines: int, *, counts: bool) -> Line:
    """The last line of a chat."""
    done = {"done": True, "done_reason": reason}
    took = {"total_duration": 9_000_000_000, "load_duration": 2_500_000_000, "prompt_eval_duration": 7_000_000}
    counted = {"eval_count": lines, "eval_duration": 40_000_000, "prompt_eval_count": 11}
    return said(model, {}) | done | took | (counted if counts else {})


def called(calls: Sequence[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """A message for each tool call, whole."""
    return [
        {"tool_calls": [{"id": f"call_{number:08x}", "function": {"index": 0, "name": name, "arguments": arguments}}]}
        for number, (name, arguments) in enumerate(calls)
    ]


def painted(model: Model) -> list[Line]:
    """The steps of an image, and the image."""
    head = {"model": model.name, "created_at": WHEN, "response": ""}
    steps = [{**head, "done": False, "completed": step, "total": 4} for step in range(1, 5)]
    return [*steps, {**head, "done": True, "done_reason": "stop", "image": PIXEL, "total_duration": 9}]


def wrong_option(options: dict[str, Any]) -> str:
    """What is wrong with a request's options, empty when nothing is."""
    for name, value in options.items():
        if name in _INTS and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f'option "{name}" must be of type integer'
        if name in _FLOATS and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f'option "{name}" must be of type float32'
        if name == "stop" and not isinstance(value, list):
            return 'option "stop" must be of type array'
    return ""
