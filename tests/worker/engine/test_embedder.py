"""The embedding engine on tiny random models, held against numpy: pooling, packing, limits, cancels, closing."""

from __future__ import annotations

import threading

import gguf
import numpy as np
import pytest

from tasks.errors import BadRequestError, ConfigError, JobCancelledError, UnavailableError, WorkerError
from tests.fakes.waiting import until
from tests.worker.engine.embed_harness import DEADLINE_S, TEXTS, EmbedHarness, cosines, held
from worker.engine import pooling
from worker.engine.embedder_api import EmbedConfig, EmbedOutput, EmbedRequest
from worker.engine.pooling_pairs import PairTokens
from worker.store.gguf import Pooling

POOLED = {
    gguf.PoolingType.MEAN: lambda hidden: hidden.mean(axis=0),
    gguf.PoolingType.CLS: lambda hidden: hidden[0],
    gguf.PoolingType.LAST: lambda hidden: hidden[-1],
}


@pytest.mark.parametrize("pools", POOLED)
def test_pooled_as_the_file_says(pools, bert, embedder):
    tiny = bert(pools)
    harness = embedder(tiny.path)
    inputs = [harness.ids(text) for text in TEXTS]
    expected = np.stack([POOLED[pools](tiny.numpy.hidden(ids)) for ids in inputs])
    vectors = harness.run(*inputs)
    np.testing.assert_allclose(vectors, expected, atol=1e-2)  # ggml computes GELU from a table in f16
    assert cosines(vectors, expected).min() > 0.99999
    assert (harness.engine.ranks, harness.engine.width) == (False, 32)


def test_ranks(bert, embedder):
    tiny = bert(gguf.PoolingType.RANK)
    harness = embedder(tiny.path)
    pairs = PairTokens(harness.model)
    inputs = [pairs.tokens("capital of paris?", text) for text in TEXTS]
    cls, sep = harness.model.tokenize("")
    assert inputs[1] == (cls, *harness.model.tokenize("capital of paris?")[1:-1], sep, harness.ids("a")[1])
    scores = harness.run(*inputs)
    assert scores.shape == (5, 1)
    np.testing.assert_allclose(scores[:, 0], [tiny.numpy.score(ids) for ids in inputs], atol=1e-2)
    assert harness.engine.ranks
    assert not pairs.probabilities


def test_how_inputs_are_packed_does_not_change_their_vectors(bert, embedder):
    tiny = bert(gguf.PoolingType.MEAN)
    together, alone = embedder(tiny.path), embedder(tiny.path, pack_inputs=1)
    inputs = [together.ids(text) for text in TEXTS]
    np.testing.assert_allclose(together.run(*inputs), alone.run(*inputs), atol=1e-2)
    assert (together.engine.stats().steps, alone.engine.stats().steps) == (1, 5)


def test_one_batch_serves_several_requests(mean):
    inputs = [mean.ids(text) for text in TEXTS]
    with held(mean):
        for number, ids in enumerate(inputs):
            mean.submit(f"r{number}", ids)
    got = np.concatenate([mean.wait(f"r{number}").vectors for number in range(5)])
    assert mean.engine.stats().steps == 2
    np.testing.assert_allclose(got, mean.run(*inputs), atol=1e-3)


@pytest.mark.parametrize(("ctx", "tokens", "inputs"), [(63, 50, 64), (61, 7, 3), (1, 1, 256), (64, 100, 33)])
def test_odd_sizes(ctx, tokens, inputs, bert, embedder):
    harness = embedder(bert(gguf.PoolingType.MEAN).path, ctx_per_input=ctx, pack_tokens=tokens, pack_inputs=inputs)
    assert harness.run(*[(1,) * ctx, (2,)] * 70).shape == (140, 32)


def test_a_causal_model_reads_long_inputs_in_parts(tiny_path, embedder):
    """Last-token pooling with a KV cache: in parts of 16 tokens the same vector as at once."""
    parts = embedder(tiny_path, pooling=Pooling.LAST, ctx_per_input=200, pack_tokens=16)
    whole = embedder(tiny_path, pooling=Pooling.LAST, ctx_per_input=200, pack_tokens=256)
    inputs = [parts.ids("the quick brown fox " * n) for n in (1, 3, 9)]
    assert max(map(len, inputs)) > 100
    a, b = parts.run(*inputs), whole.run(*inputs)
    assert cosines(a, b).min() > 0.999
    assert cosines(a[:1], a[2:]).max() < 0.99
    np.testing.assert_array_equal(parts.run(*inputs), a)  # nothing is left of the batch before


def test_a_causal_model_that_averages_reads_inputs_whole(tiny_path, embedder):
    harness = embedder(tiny_path, pooling=Pooling.MEAN, ctx_per_input=200, pack_tokens=16)
    assert harness.run(harness.ids("the quick brown fox " * 9)).shape == (1, 64)


# ----------------------------------------------------------------- what it takes


def test_bad_inputs_are_named(mean):
    good = (1, 2)
    for bad, words, code in (
        ((), "there is nothing to embed", "bad_request"),
        ((good, ()), "input 1 is empty", "bad_request"),
        ((good, good, (1,) * 65), "input 2 has 65 tokens; this model takes 64 at most", "context_length_exceeded"),
        (((10**6,),), "input 0 holds token ids outside this model's 0 to", "bad_request"),
        (((-1,),), "input 0 holds token ids", "bad_request"),
    ):
        with pytest.raises(BadRequestError, match=words) as caught:
            mean.submit("bad", *bad)
        assert caught.value.code == code
    assert mean.run((1,) * 64).shape == (1, 32)


def test_a_model_that_does_not_pool(tiny_path):
    harness = EmbedHarness(tiny_path)
    with pytest.raises(WorkerError, match="cannot serve embeddings") as caught:
        harness.engine.start()
    assert caught.value.code == "unsupported_architecture"
    harness.close()


def test_a_context_that_cannot_be_understood_is_freed(bert, monkeypatch):
    freed = []
    free = pooling.lib.llama_free
    monkeypatch.setattr(pooling.lib, "llama_free", lambda ctx: (freed.append(ctx), free(ctx)))
    monkeypatch.setattr(pooling.lib, "llama_pooling_type", lambda _ctx: 99)
    harness = EmbedHarness(bert(gguf.PoolingType.MEAN).path)
    with pytest.raises(ValueError, match="99"):
        harness.engine.start()
    harness.close()
    assert len(freed) == 1


@pytest.mark.parametrize("bad", [{"pack_tokens": 0}, {"pack_inputs": 257}, {"threads": 0}, {"ctx_per_input": 0}])
def test_settings_are_checked(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        EmbedConfig(**bad)


# ----------------------------------------------------------------- cancel, close


def test_cancel_between_batches(bert, embedder):
    harness = embedder(bert(gguf.PoolingType.MEAN).path, pack_inputs=1)
    reached, go = threading.Event(), threading.Event()
    outputs = []

    def listener(output: EmbedOutput) -> None:
        outputs.append(output)
        reached.set()
        assert go.wait(DEADLINE_S)

    harness.engine.submit(EmbedRequest("long", ((1, 2),) * 100), listener)
    assert reached.wait(DEADLINE_S)
    harness.engine.cancel("long")
    harness.engine.cancel("never heard of")
    go.set()
    harness.run((1, 2))
    assert (outputs[0].done, outputs[0].total, outputs[0].last) == (1, 100, False)
    assert isinstance(outputs[-1].error, JobCancelledError)
    assert harness.engine.stats().steps <= 3
    harness.submit("long", (1, 2))
    assert harness.wait("long").vectors is not None


def test_one_request_of_a_name(mean):
    with held(mean):
        mean.submit("same", (1,))
        with pytest.raises(BadRequestError, match="running already"):
            mean.submit("same", (1,))
    mean.wait("same")


def test_close_ends_what_runs(mean):
    closer = threading.Thread(target=mean.engine.close)
    with held(mean):
        mean.submit("waiting", (1,))
        closer.start()
        until(lambda: mean.engine._desk._closed)
    closer.join(DEADLINE_S)
    assert mean.wait("waiting").error.code == "draining"
    with pytest.raises(UnavailableError):
        mean.submit("late", (1,))
    mean.engine.close()
