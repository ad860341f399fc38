"""A running control plane with one bridge connected, and the clients of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import openai
import pendra
import pytest

from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import FakeBridge
from tests.ops.controlplane.running import LIMIT_S, Running


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "home")
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def api(plane: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=plane.url, headers=plane.headers, timeout=LIMIT_S, trust_env=False
    ) as client:
        yield client


@pytest.fixture
async def bridge(plane: Running) -> AsyncIterator[FakeBridge]:
    async with plane.bridge() as connected:
        await asyncio.to_thread(until, plane.ready)
        yield connected


@pytest.fixture
async def openai_client(plane: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{plane.url}/v1", api_key=plane.key, max_retries=0, timeout=LIMIT_S
    ) as client:
        yield client


@pytest.fixture
async def pendra_client(plane: Running) -> AsyncIterator[pendra.AsyncPendra]:
    async with pendra.AsyncPendra(api_key=plane.key, base_url=plane.url, timeout=LIMIT_S) as client:
        yield client
