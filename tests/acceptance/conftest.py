"""One stack of two workers for the whole tier; tests that break things start their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pendra
import pytest

from tests.acceptance.site import Site, running_site
from tests.acceptance.stack import Stack, free_port, running

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.acceptance)


@pytest.fixture(scope="session")
def models_dir(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the real model, as an install leaves it."""
    store = tmp_path_factory.mktemp("models")
    target = store / smollm2.name
    target.symlink_to(smollm2)
    sidecar = {"id": "smollm2:135m", "purpose": "chat", "licence": "Apache-2.0"}
    (store / f"{smollm2.name}.meta.json").write_text(json.dumps(sidecar))
    return store


@pytest.fixture(scope="session")
def stack(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("home")
    settings = home / "config.yaml"
    settings.touch(0o600)
    settings.write_text(f"metrics_port: {free_port()}\n")
    with running(Stack(home, models_dir, args=("--workers", "2", "--slots", "8")), workers=2) as up:
        yield up


@pytest.fixture(scope="session")
def site(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A stack beside external servers."""
    with running_site(tmp_path_factory.mktemp("site"), models_dir) as up:
        yield up


@pytest.fixture
def api(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {stack.key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=120) as client:
        yield client


@pytest.fixture
def openai_client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture
def pendra_client(stack: Stack) -> Iterator[pendra.Pendra]:
    client = pendra.Pendra(api_key=stack.key, base_url=stack.url)
    yield client
    client.close()
