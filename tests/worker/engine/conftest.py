"""A tiny model in memory, and an engine whose outputs a test can wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.tiny_llama import write_tiny_llama
from tests.worker.engine.harness import Harness
from worker.engine.config import EngineConfig, KvType
from worker.engine.model import LoadedModel

StartEngine = Callable[..., Harness]


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Iterator[LoadedModel]:
    with LoadedModel(tiny_path, n_gpu_layers=0) as model:
        yield model


@pytest.fixture
def start_engine(tiny: LoadedModel) -> Iterator[StartEngine]:
    """Starts engines on the tiny model (keyword arguments are EngineConfig's) and closes them after the test."""
    started: list[Harness] = []

    def start(model: LoadedModel = tiny, **settings: object) -> Harness:
        config = EngineConfig(**{"slots": 4, "ctx_per_seq": 256, "kv_type": KvType.F32, **settings})
        started.append(Harness(model, config))
        return started[-1]

    yield start
    for harness in started:
        harness.close()
