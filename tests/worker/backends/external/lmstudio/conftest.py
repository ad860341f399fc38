"""A fake LM Studio over real HTTP, and the product that talks to it."""

from __future__ import annotations

import pytest

from tests.fakes.lmstudio_server import LmStudioServer
from worker.backends.external.lmstudio.product import LmStudio
from worker.backends.external.product import Found, ProductName
from worker.backends.external.upstream import Patience


@pytest.fixture
def server() -> LmStudioServer:
    return LmStudioServer()


@pytest.fixture
def found(url: str) -> Found:
    return Found(ProductName.LMSTUDIO, url)


@pytest.fixture
def product() -> LmStudio:
    return LmStudio(Patience(first_s=30.0, idle_s=30.0, pauses_s=(0.01, 0.01)), poll_s=0.001)
