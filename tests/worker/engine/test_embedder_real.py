"""all-MiniLM-L6-v2 through our engine against the vectors of sentence-transformers' published pipeline."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from tests.fakes.minilm import minilm_gguf
from tests.fakes.minilm_reference import PATH, PUBLISHED, load
from worker.engine.embedder import Embedder
from worker.engine.embedder_api import EmbedConfig, EmbedOutput, EmbedRequest
from worker.engine.model import LoadedModel


@pytest.fixture(scope="module")
def model() -> Iterator[LoadedModel]:
    with LoadedModel(minilm_gguf(), n_gpu_layers=0) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def vectors(model) -> np.ndarray:
    """Ours, of the reference's texts, normalised."""
    texts, _ = load()
    engine = Embedder(model, EmbedConfig(threads=2))
    engine.start()
    outputs: list[EmbedOutput] = []
    ended = threading.Event()

    def listener(output: EmbedOutput) -> None:
        outputs.append(output)
        if output.last:
            ended.set()

    inputs = tuple(tuple(model.tokenize(text, parse_special=True)) for text in texts)
    engine.submit(EmbedRequest("r", inputs), listener)
    assert ended.wait(60)
    engine.close()
    rows = outputs[-1].vectors
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_texts_tokenise_as_in_the_published_pipeline(model):
    stored = json.loads(PATH.read_text())
    assert [model.tokenize(text, parse_special=True) for text in stored["texts"]] == stored["tokens"]


def test_vectors_are_those_of_the_published_pipeline(vectors):
    _, reference = load()
    assert reference.shape == (9, 384)
    cosines = (vectors * reference).sum(axis=1)
    assert cosines.min() >= 0.9999, cosines


def test_similarities_are_the_published_ones(vectors):
    np.testing.assert_allclose((vectors @ vectors.T)[:3, :3], PUBLISHED, atol=1e-3)
