"""Tiny models, and engines whose outputs a test can wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import pytest

from tests.fakes.tiny_bert import TinyBert, write_tiny_bert
from tests.fakes.tiny_llama import write_tiny_llama
from tests.worker.engine.embed_harness import EmbedHarness
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


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Callable[[gguf.PoolingType], TinyBert]:
    """Writes a small model that pools so."""
    folder = tmp_path_factory.mktemp("bert")
    return lambda pooling: write_tiny_bert(folder / f"{pooling.name}.gguf", pooling=pooling)


@pytest.fixture
def embedder() -> Iterator[Callable[..., EmbedHarness]]:
    """Starts an embedding engine on a file (keyword arguments are EmbedConfig's); it is closed after the test."""
    started: list[EmbedHarness] = []

    def begin(path: Path, **settings: object) -> EmbedHarness:
        started.append(EmbedHarness(path, **settings))
        started[-1].engine.start()
        return started[-1]

    yield begin
    for harness in started:
        harness.close()


@pytest.fixture
def mean(bert: Callable[[gguf.PoolingType], TinyBert], embedder: Callable[..., EmbedHarness]) -> EmbedHarness:
    return embedder(bert(gguf.PoolingType.MEAN).path)
