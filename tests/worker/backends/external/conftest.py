"""One real HTTP server for all tests of a file, whose fake `server` each test has of its own; and a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.serving import serving
from tests.fakes.stage import Stage
from tests.worker.backends.external.asking import http_client


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    with serving(stage) as stage.url:
        yield stage


@pytest.fixture
def url(stage: Stage, server: Any) -> str:
    """Where `server`, the folder's own fixture, is served."""
    stage.app = server.app()
    return stage.url


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as http:
        yield http
