"""Servers' errors as ours: what each status means, and how much of the server's words is kept."""

from __future__ import annotations

import json

import pytest

from tasks.errors import BadRequestError, NotFoundError, WorkerError
from worker.backends.external.faults import MOST_WORDS, message_of, refused
from worker.backends.external.product import Found, ProductName

OLLAMA = Found(ProductName.OLLAMA, "http://x:1")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "model \'x\' not found"}', "model 'x' not found"),
        (b'{"error": {"message": "too long", "type": "BadRequestError"}}', "too long"),
        (b'{"object": "error", "message": "too long"}', "too long"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (
            b'{"detail": [{"loc": ["body", "seed"], "msg": "must be an int", "input": "secret"}]}',
            "seed: must be an int",
        ),
        (b"404 page not found", "404 page not found"),
        (b"<html><body>nginx</body></html>", ""),
        (b"", ""),
        (b"[]", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_the_servers_own_words(body: bytes, words: str):
    assert message_of(body) == words


@pytest.mark.parametrize(
    "trace",
    [
        'boom\nTraceback (most recent call last):\n  File "/srv/x.py", line 1',
        "boom\n    at Object.run (/app/x.js:1:1)",
        "boom\n\ngoroutine 7 [running]:\nmain.main()",
    ],
)
def test_no_stack_trace_and_no_novel(trace: str):
    assert message_of(trace.encode()) == "boom"
    assert message_of(json.dumps({"error": trace}).encode()) == "boom"
    assert len(message_of(b"x" * 10_000)) == MOST_WORDS


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, BadRequestError, "bad_request"),
        (422, BadRequestError, "bad_request"),
        (404, NotFoundError, "model_not_found"),
        (401, WorkerError, "backend_error"),
        (500, WorkerError, "backend_error"),
        (502, WorkerError, "backend_unavailable"),
        (503, WorkerError, "backend_unavailable"),
        (429, WorkerError, "backend_unavailable"),
        (301, WorkerError, "backend_error"),
    ],
)
def test_what_a_status_means(status: int, kind: type[Exception], code: str):
    error = refused(OLLAMA, status, b'{"error": "because"}', "smollm2:135m")
    assert type(error) is kind
    assert error.code == code
    assert f"Ollama answered HTTP {status}: because" in error.message
