"""A fake LM Studio over real HTTP, and the product that talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.fakes.lmstudio_server import LmStudioServer
from tests.fakes.serving import serving
from tests.fakes.stage import Stage
from tests.worker.backends.external.asking import http_client
from worker.backends.external.lmstudio.product import LmStudio
from worker.backends.external.product import Found, ProductName
from worker.backends.external.upstream import Patience


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    with serving(stage) as stage.url:
        yield stage


@pytest.fixture
def server() -> LmStudioServer:
    return LmStudioServer()


@pytest.fixture
def url(stage: Stage, server: LmStudioServer) -> str:
    stage.app = server.app()
    return stage.url


@pytest.fixture
def found(url: str) -> Found:
    return Found(ProductName.LMSTUDIO, url)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as http:
        yield http


@pytest.fixture
def product() -> LmStudio:
    return LmStudio(Patience(first_s=30.0, idle_s=30.0, pauses_s=(0.01, 0.01)), poll_s=0.001)
