"""A fake Ollama over real HTTP, and the product that talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.fakes.ollama_server import OllamaServer
from tests.fakes.serving import serving
from tests.fakes.stage import Stage
from tests.worker.backends.external.asking import http_client
from tests.worker.backends.external.ollama.asking import Asker
from worker.backends.external.product import Found, ProductName


@pytest.fixture
def server() -> OllamaServer:
    return OllamaServer()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One HTTP server for all tests of a file: whose app it serves changes with every test."""
    stage = Stage()
    with serving(stage) as stage.url:
        yield stage


@pytest.fixture
def url(stage: Stage, server: OllamaServer) -> str:
    stage.app = server.app()
    return stage.url


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as http:
        yield http


@pytest.fixture
def found(server: OllamaServer, url: str) -> Found:
    return Found(ProductName.OLLAMA, url, server.version)


@pytest.fixture
def asker(http: httpx.AsyncClient, found: Found) -> Asker:
    return Asker(http, found)
