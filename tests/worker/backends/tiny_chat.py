"""A chat backend on a tiny random model that speaks any dialect, and what a reply of it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.contract import Chunk, Job
from tests.fakes.backend_parts import DirectPublisher, RecordingReply
from tests.fakes.tiny_llama import CHAT_TEMPLATE, write_tiny_llama
from worker.backends.base import CancelToken
from worker.backends.llama import LlamaBackend
from worker.engine.config import EngineConfig, KvType
from worker.engine.engine import Engine
from worker.engine.model import LoadedModel


@contextmanager
def tiny_backend(
    folder: Path, *control: str, tail: str = "", metadata: dict[str, int] | None = None
) -> Iterator[LlamaBackend]:
    """Its template names the `control` tokens, which makes its dialect; a prompt ends with `tail`."""
    template = CHAT_TEMPLATE + tail + "{% if tools %}{% endif %}{# " + " ".join(control) + " #}"
    path = write_tiny_llama(folder / "tiny.gguf", chat_template=template, control=control, metadata=metadata)
    model = LoadedModel(path, n_gpu_layers=0)
    config = EngineConfig(slots=4, ctx_per_seq=512, kv_type=KvType.F32, threads=1)
    backend = LlamaBackend(model, lambda on_step: Engine(model, config, on_step), DirectPublisher())
    try:
        yield backend
    finally:
        backend.close()


def run(backend: LlamaBackend, job: Job) -> RecordingReply:
    reply = RecordingReply(job)
    backend.serve(job, reply, CancelToken())
    assert reply.errors == []
    return reply


def whole(reply: RecordingReply) -> dict[str, Any]:
    """The body of a reply that did not stream."""
    return dict(json.loads(reply.finished.data or ""))


def shown(chunks: list[Chunk]) -> list[dict[str, Any]]:
    """The choices of chunks, without the usage."""
    return [choice for chunk in chunks for choice in json.loads(chunk.data)["choices"]]


def tokens(chunks: list[Chunk]) -> tuple[int, ...]:
    return tuple(token for chunk in chunks for token in chunk.tokens or ())
