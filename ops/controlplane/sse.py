"""The bytes of a streamed reply (text/event-stream), and the API's own last chunk. Pure."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json

from bridge.protocol import ResultFrame
from tasks.contract import Notice, Timing

COMMENT = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def payload(data: str) -> bytes:
    """One SSE event from JSON text. Raw line breaks are only white space in JSON, but would end an SSE line."""
    if "\n" in data or "\r" in data:
        data = data.replace("\r", " ").replace("\n", " ")
    return f"data: {data}\n\n".encode()


def json_payload(value: dict[str, Any]) -> bytes:
    return payload(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def notice_chunk(head: dict[str, Any], notice: Notice) -> bytes:
    """A chunk with an empty delta that only carries the notice. `head` as from `chunk_head`."""
    choice = {"index": 0, "delta": {}, "finish_reason": None}
    return json_payload({**head, "choices": [choice], "pendra": {"notice": notice.model_dump()}})


def trailer(head: dict[str, Any], block: dict[str, Any]) -> bytes:
    """The last chunk before `[DONE]`: empty choices, and what the API itself has to say."""
    return json_payload({**head, "choices": [], "pendra": block})


def chunk_head(first: str | None, *, fallback_id: str, kind_object: str, created: int, model: str) -> dict[str, Any]:
    """`id`, `object`, `created`, `model` as on the worker's own chunks.

    `first` is the worker's first chunk; of a sealed stream (or none) the fallbacks are used.
    """
    head: dict[str, Any] = {"id": fallback_id, "object": kind_object, "created": created, "model": model}
    try:
        said = from_json(first) if first else {}
    except ValueError:
        said = {}
    if not isinstance(said, dict):
        return head
    return {name: said[name] if isinstance(said.get(name), type(value)) else value for name, value in head.items()}


def timing_block(result: ResultFrame) -> dict[str, Any]:
    """Whole milliseconds; what was not measured is left out. `queue_wait_ms` is the wait for a worker and on it."""
    timing: Timing = result.timing
    waits = [wait for wait in (result.queue_wait_ms, timing.worker_queue_wait_ms) if wait is not None]
    measured = {
        "ttft_ms": _whole(timing.ttft_ms),
        "tokens_per_second": None if timing.tokens_per_second is None else round(timing.tokens_per_second, 2),
        "queue_wait_ms": _whole(sum(waits)) if waits else None,
        "worker_queue_wait_ms": _whole(timing.worker_queue_wait_ms),
        "model_load_ms": _whole(timing.model_load_ms),
        "cold_start": timing.cold_start,
    }
    return {name: value for name, value in measured.items() if value is not None}


def worker_block(result: ResultFrame) -> dict[str, Any]:
    worker = {"id": result.worker_id, "name": result.worker_name, "version": result.worker_version}
    return {name: value for name, value in worker.items() if value}


def server_timing(result: ResultFrame, total_ms: float) -> str:
    """`Server-Timing` of a reply that did not stream (W3C Server Timing: `name;dur=ms`)."""
    timing = result.timing
    measured = {
        "queue": result.queue_wait_ms,
        "worker-queue": timing.worker_queue_wait_ms,
        "load": timing.model_load_ms,
        "ttft": timing.ttft_ms,
        "total": total_ms,
    }
    parts = [f"{name};dur={value:.1f}" for name, value in measured.items() if value is not None]
    return ", ".join([*parts, "cold-start"] if timing.cold_start else parts)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
