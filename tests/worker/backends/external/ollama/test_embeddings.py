"""Embeddings at the fake Ollama."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from tasks.contract import Job, JobKind
from tests.fakes.ollama_models import EMBEDDER
from tests.worker.backends.external.asking import job
from worker.backends.external.ollama.embeddings import BATCH

MODEL = EMBEDDER.name


def embeddings(*, stream: bool = False, **body: Any) -> Job:
    return job(JobKind.EMBEDDINGS, stream=stream, **body)


async def test_openais_shape(asker, server):
    reply = await asker.ask(embeddings(input=["a", "bb"]), MODEL)
    assert (reply.body["object"], reply.body["model"]) == ("list", "m")
    assert [row["index"] for row in reply.body["data"]] == [0, 1]
    assert np.linalg.norm(reply.body["data"][0]["embedding"]) == pytest.approx(1)
    assert reply.body["data"][1]["embedding"][1] == max(reply.body["data"][1]["embedding"])
    assert reply.body["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert reply.usage.prompt_tokens == 6
    assert reply.timing.model_load_ms == 1.0
    assert server.sent("/api/embed") == [{"model": MODEL, "input": ["a", "bb"]}]  # num_ctx is for chat only


async def test_base64_and_fewer_dimensions(asker):
    reply = await asker.ask(embeddings(input="a", encoding_format="base64", dimensions=2), MODEL)
    row = np.frombuffer(base64.b64decode(reply.body["data"][0]["embedding"]), "<f4")
    assert row.shape == (2,)
    assert np.linalg.norm(row) == pytest.approx(1)


async def test_long_lists_go_in_batches_and_keep_their_order(asker, server):
    inputs = ["x" * (1 + n % 4) for n in range(2 * BATCH + 3)]
    reply = await asker.ask(embeddings(input=inputs), MODEL)
    assert [int(np.argmax(row["embedding"])) for row in reply.body["data"]] == [n % 4 for n in range(len(inputs))]
    assert [len(body["input"]) for body in server.sent("/api/embed")] == [BATCH, BATCH, 3]
    assert reply.body["usage"]["prompt_tokens"] == 3 * len(inputs)
    assert reply.stages.count("embedding") == 3


async def test_ollamas_own_fields_pass(asker, server):
    await asker.ask(embeddings(input="a", keep_alive=60, options={"num_ctx": 256}), MODEL)
    assert server.sent("/api/embed")[0] | {"keep_alive": 60, "options": {"num_ctx": 256}} == server.requests[0][1]


async def test_tokens_are_estimated_when_not_counted(asker, server):
    server.faults.no_counts = True
    assert (await asker.ask(embeddings(input="x" * 8), MODEL)).usage.prompt_tokens == 2


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": []}, "input", "bad_request"),
        ({"input": [[1, 2]]}, "input[0]", "unsupported_parameter"),
        ({"input": [1, 2]}, "input", "unsupported_parameter"),
        ({"input": "a", "embd_normalize": -1}, "embd_normalize", "unsupported_parameter"),
        ({"input": "a", "dimensions": 5}, "dimensions", "bad_request"),
        ({"input": "a" * 600, "truncate": False}, None, "context_length_exceeded"),
    ],
)
async def test_what_is_refused(asker, body, param, code):
    error = await asker.refusal(embeddings(**body), MODEL)
    assert (error.status, error.param, error.code) == (400, param, code)


async def test_vectors_come_whole(asker):
    assert (await asker.refusal(embeddings(input="a", stream=True), MODEL)).param == "stream"


async def test_vectors_that_are_none(asker, server):
    server.width = 0
    error = await asker.refusal(embeddings(input="a"), MODEL)
    assert error.code == "backend_error"
    assert "not one vector for each input" in error.message
