"""A store of three models and a runtime over it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.tiny_llama import write_tiny_llama
from tests.worker.runtime.world import World


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def store(tiny: Path, tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        shutil.copyfile(tiny, tmp_path / f"{name}.gguf")
    return tmp_path


@pytest.fixture
def world(store: Path) -> Iterator[World]:
    made = World(store)
    yield made
    made.opener.gate.set()
    made.runtime.close()
