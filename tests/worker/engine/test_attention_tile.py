"""When a batch is worth filling up, and that nobody's vector changes by it."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.minilm import minilm_gguf
from tests.fakes.tiny_bert import write_tiny_bert
from worker.engine.attention_tile import TILE, worth_filling
from worker.engine.embedder_api import EmbedConfig
from worker.engine.model import LoadedModel
from worker.engine.pooling import PoolingContext


@pytest.mark.parametrize(
    ("weights", "heads", "tokens"),
    [(10_630_000, 72, 42), (85_000_000, 144, 55), (302_000_000, 384, 57)],
    ids=["MiniLM", "bge-base", "bge-large"],
)
def test_the_larger_the_model_the_less_attention_counts(weights, heads, tokens):
    assert worth_filling(weights, heads) == tokens


@given(st.integers(0, 10**12), st.integers(0, 10**5))
def test_never_more_than_a_tile(weights, heads):
    assert 0 < worth_filling(weights, heads) <= TILE


@given(st.integers(1, 10**10), st.integers(1, 10**4))
def test_filled_up_it_costs_no_more(weights, heads):
    tokens = worth_filling(weights, heads)
    assert weights * tokens + 1940 * heads * tokens**2 >= weights * TILE * (1 - 1e-9)


def test_vectors_of_a_batch_that_is_filled_up():
    with LoadedModel(minilm_gguf(), n_gpu_layers=0) as model:
        inputs = [
            model.tokenize(text)
            for text in (
                "The dentist is a twenty minute walk from the old harbour, past the two bakeries and the school.",
                "Bring the blue folder and the signed letter to the meeting on Thursday, and do not be late again.",
            )
        ]
        size = sum(map(len, inputs))
        filling, plain = (PoolingContext(model, EmbedConfig(ctx_per_input=512, on_cpu=cpu)) for cpu in (True, False))
        try:
            assert filling._fill_from <= size < TILE
            assert plain._fill_from == TILE
            a, b = filling.run(inputs), plain.run(inputs)
        finally:
            filling.close()
            plain.close()
        assert a.shape == (2, 384)
        np.testing.assert_allclose(a, b, atol=2e-2)
        assert ((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.99999


@pytest.mark.parametrize("pooling", [gguf.PoolingType.MEAN, gguf.PoolingType.CLS, gguf.PoolingType.RANK])
@pytest.mark.parametrize("pack_inputs", [3, 4, 64])
def test_however_a_model_pools_and_packs_it_is_the_same_filled_up(pooling, pack_inputs, tmp_path):
    tiny = write_tiny_bert(tmp_path / "tiny.gguf", pooling=pooling)
    inputs = [(1, 2, 3), (7,) * 20, (9, 8)]
    rows = []
    with LoadedModel(tiny.path, n_gpu_layers=0) as model:
        for on_cpu in (True, False):
            context = PoolingContext(model, EmbedConfig(pack_inputs=pack_inputs, on_cpu=on_cpu))
            assert (context._fill_from <= 25) is on_cpu
            rows.append(context.run(inputs))
            context.close()
    np.testing.assert_allclose(*rows, atol=2e-2)


def test_a_model_of_few_places_is_not_given_more_tokens_than_it_has(tmp_path):
    """llama.cpp aborts the process at a place beyond the last of the model's table."""
    tiny = write_tiny_bert(tmp_path / "short.gguf", n_ctx=16)
    with LoadedModel(tiny.path, n_gpu_layers=0) as model:
        context = PoolingContext(model, EmbedConfig())
        assert (context.limit, context._fill_from) == (16, TILE)
        assert context.run([(1,) * 10]).shape == (1, 32)
        context.close()


def test_one_sequence_too_few_leaves_it_as_it_is():
    with LoadedModel(minilm_gguf(), n_gpu_layers=0) as model:
        context = PoolingContext(model, EmbedConfig(ctx_per_input=512, pack_inputs=1))
        try:
            assert context.run([[101, *range(2000, 2048), 102]]).shape == (1, 384)
        finally:
            context.close()
