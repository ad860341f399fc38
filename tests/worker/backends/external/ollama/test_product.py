"""Ollama is recognised by two of its routes; what it cannot do is said."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from tasks.contract import JobKind
from tests.fakes.serving import serving
from tests.fakes.vllm_server import VllmServer
from tests.worker.backends.external.asking import job
from worker.backends.external.ollama.product import Ollama
from worker.backends.external.product import NotFoundHere, ProductName


async def test_it_is_recognised(http, url):
    found = await Ollama().probe(http, url)
    assert (found.product, found.url, found.version) == (ProductName.OLLAMA, url, "0.32.5")
    assert found.latency_ms > 0


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ({}, "GET /api/version answered HTTP 404"),
        ({"/api/version": {"version": 3}}, "GET /api/version answered JSON that is not Ollama's"),
        ({"/api/version": {"version": "1"}}, "GET /api/tags answered HTTP 404"),
        ({"/api/version": {"version": "1"}, "/api/tags": {"models": "x"}}, "GET /api/tags answered JSON"),
        ({"/api/version": {"version": "1"}, "/api/tags": {"models": [{"id": "x"}]}}, "GET /api/tags answered JSON"),
    ],
)
async def test_what_only_looks_like_it_is_not_it(http, routes, words):
    app = Starlette(routes=[Route(path, lambda _, said=said: JSONResponse(said)) for path, said in routes.items()])
    with serving(app) as url, pytest.raises(NotFoundHere, match=words):
        await Ollama().probe(http, url)


async def test_other_products_are_not_it(http):
    page = Starlette(routes=[Route("/api/version", lambda _: PlainTextResponse("<html>", media_type="text/html"))])
    with serving(VllmServer().app()) as url, pytest.raises(NotFoundHere, match="HTTP 404"):
        await Ollama().probe(http, url)
    with serving(page) as url, pytest.raises(NotFoundHere, match="an HTML page"):
        await Ollama().probe(http, url)


async def test_an_empty_server_is_one_too(http, server, url):
    server.models = []
    found = await Ollama().probe(http, url)
    assert await Ollama().models(http, found) == ()


@pytest.mark.parametrize("kind", [JobKind.RERANK, JobKind.TRANSCRIPTION, JobKind.SPEECH])
async def test_what_it_does_not_do(asker, kind):
    error = await asker.refusal(job(kind))
    assert (error.status, error.code) == (400, "wrong_capability")
