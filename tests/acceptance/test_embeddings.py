"""Embeddings and ranks through the whole stack, asked with the official clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import openai
import pendra
import pytest

from tests.acceptance.stack import eventually
from tests.fakes.minilm import minilm_gguf
from tests.fakes.minilm_reference import load
from tests.fakes.tiny_bert import write_tiny_bert
from worker.private import keys as workload_keys


@pytest.fixture(scope="module")
def models(stack, models_dir: Path) -> Iterator[tuple[str, str]]:
    """Ids of an embedding model and a reranker, dropped into the store while the stack runs."""
    mini, rank = models_dir / "all-minilm.gguf", models_dir / "tiny-rank.gguf"
    mini.symlink_to(minilm_gguf())
    write_tiny_bert(rank, pooling=gguf.PoolingType.RANK)
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key) as client:
        wanted = {"all-minilm", "tiny-rank"}
        assert eventually(lambda: wanted <= {model.id for model in client.models.list()}, timeout=60)
    yield "all-minilm", "tiny-rank"
    mini.unlink()
    rank.unlink()


@pytest.mark.parametrize("form", [openai.NOT_GIVEN, "float", "base64"])
def test_openai_embeddings(openai_client, models, form):
    texts, reference = load()
    reply = openai_client.embeddings.create(model=models[0], input=texts, encoding_format=form)
    vectors = [row.embedding for row in reply.data]
    if form == "base64":
        assert all(isinstance(vector, str) for vector in vectors)
        return
    assert (np.array(vectors) * reference).sum(axis=1).min() >= 0.999
    assert reply.usage.prompt_tokens == reply.usage.total_tokens > 100


def test_openai_dimensions(openai_client, models):
    reply = openai_client.embeddings.create(model=models[0], input="hello", dimensions=64)
    assert len(reply.data[0].embedding) == 64
    assert np.linalg.norm(reply.data[0].embedding) == pytest.approx(1, rel=1e-5)


def test_too_long_is_a_bad_request(openai_client, models):
    with pytest.raises(openai.BadRequestError, match=r"input\[1\] has \d+ tokens, and all-minilm reads 512 at most"):
        openai_client.embeddings.create(model=models[0], input=["a", "word " * 600])


def test_the_wrong_model_is_a_bad_request(openai_client, models):
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.embeddings.create(model="smollm2:135m", input="a")
    assert caught.value.code == "wrong_capability"


def test_pendra_embeddings(pendra_client, models):
    reply = pendra_client.embeddings.create(model=models[0], input=["a", "b"])
    assert [(row.index, len(row.embedding)) for row in reply.data] == [(0, 384), (1, 384)]


def test_pendra_rerank(pendra_client, models):
    documents = ["paris", "a dog", "the mat"]
    reply = pendra_client.rerank.create(
        model=models[1], query="capital", documents=documents, top_n=2, return_documents=True
    )
    scores = [one.relevance_score for one in reply.results]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    assert [one.document.text for one in reply.results] == [documents[one.index] for one in reply.results]
    assert reply.meta["tokens"]["input_tokens"] > 0


@pytest.fixture(params=["trusting", "pinned"])
def private(request, stack, tmp_path: Path) -> Iterator[pendra.Pendra]:
    options = {"tofu_path": str(tmp_path / "known.json")}
    if request.param == "pinned":
        options["pinned_fingerprint"] = workload_keys.load(stack.home / "workload-key")[0].kid
    with pendra.Pendra(api_key=stack.key, base_url=stack.url, private_inference=options) as client:
        yield client


def test_private_embeddings(private, pendra_client, models):
    sealed, plain = (one.embeddings.create(model=models[0], input=["a", "b"]) for one in (private, pendra_client))
    assert [row.embedding for row in sealed.data] == [pytest.approx(row.embedding, abs=1e-5) for row in plain.data]
    assert sealed.pendra.worker.id


def test_private_rerank(private, pendra_client, models):
    asked = {"model": models[1], "query": "q", "documents": ["one", "two", "three"], "top_n": 2}
    sealed, plain = (one.rerank.create(**asked) for one in (private, pendra_client))
    assert [row.index for row in sealed.results] == [row.index for row in plain.results]
