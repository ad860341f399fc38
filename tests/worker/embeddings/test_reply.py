"""Replies as OpenAI and Cohere shape them, read by the official clients' own types."""

from __future__ import annotations

import json

import numpy as np
import pytest
from openai.types import CreateEmbeddingResponse
from pendra.types.rerank import RerankResponse

from tasks.contract import Job, JobKind
from worker.embeddings.reply import embeddings_reply, rerank_reply, sigmoid
from worker.embeddings.rerank import RerankRequest

JOB = Job(job_id="j1", model='m"1', kind=JobKind.RERANK, body={}, created=1, bridge_id="b")
ASKED = RerankRequest("q", ("a", "b", "c"))


def ranked(request: RerankRequest, scores: list[float], *, plain: bool = True) -> RerankResponse:
    return RerankResponse.from_dict(json.loads(rerank_reply(JOB, request, scores, 9, plain=plain)))


def test_embeddings():
    vectors = np.array([[1, 2], [0.1, -1e-9]], dtype=np.float32)
    data = json.loads(embeddings_reply(JOB, vectors, 7, base64=False))
    assert data == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1, 2]},
            {"object": "embedding", "index": 1, "embedding": [0.100000001, -9.99999972e-10]},
        ],
        "model": 'm"1',
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    CreateEmbeddingResponse.model_validate(data, strict=True)


def test_embeddings_in_base64():
    data = json.loads(embeddings_reply(JOB, np.array([[1.0]], dtype=np.float32), 7, base64=True))
    assert data["data"] == [{"object": "embedding", "index": 0, "embedding": "AACAPw=="}]


def test_ranks_are_sorted_the_earlier_of_equals_first():
    reply = ranked(ASKED, [0.5, 2.0, 0.5])
    assert [(one.index, one.relevance_score) for one in reply.results] == [(1, 2.0), (0, 0.5), (2, 0.5)]
    assert (reply.id, reply.meta) == ("rerank-j1", {"tokens": {"input_tokens": 9, "output_tokens": 0}})
    assert reply.results[0].document is None


def test_top_n_and_documents():
    request = RerankRequest("q", ("a", "b", "c"), top_n=2, return_documents=True)
    assert [one.document.text for one in ranked(request, [1.0, 3.0, 2.0]).results] == ["b", "c"]
    assert len(ranked(RerankRequest("q", ("a",), top_n=5), [1.0]).results) == 1


def test_logits_become_probabilities_and_keep_their_order():
    reply = ranked(ASKED, [0.0, 60.0, 50.0], plain=False)
    assert [one.index for one in reply.results] == [1, 2, 0]
    assert [one.relevance_score for one in reply.results] == [1.0, 1.0, 0.5]


@pytest.mark.parametrize(("logit", "expected"), [(0, 0.5), (1, 0.7310586), (-1, 0.2689414), (800, 1), (-800, 0)])
def test_sigmoid(logit, expected):
    assert sigmoid(logit) == pytest.approx(expected)
