"""A fake Ollama over real HTTP, and the product that talks to it."""

from __future__ import annotations

import httpx
import pytest

from tests.fakes.ollama_server import OllamaServer
from tests.worker.backends.external.ollama.asking import Asker
from worker.backends.external.product import Found, ProductName


@pytest.fixture
def server() -> OllamaServer:
    return OllamaServer()


@pytest.fixture
def found(server: OllamaServer, url: str) -> Found:
    return Found(ProductName.OLLAMA, url, server.version)


@pytest.fixture
def asker(http: httpx.AsyncClient, found: Found) -> Asker:
    return Asker(http, found)
