"""What a rerank request may look like, and what is said when it does not."""

from __future__ import annotations

import pytest

from tasks.errors import BadRequestError
from worker.embeddings.rerank import RerankRequest, parse_rerank


def test_documents_are_texts_or_objects_with_one():
    body = {"query": "q", "documents": ["a", {"text": "b", "title": "x"}]}
    assert parse_rerank(body) == RerankRequest("q", ("a", "b"))


def test_options():
    body = {"query": "q", "documents": ["a"], "top_n": 9, "return_documents": True, "raw_scores": True, "user": "u"}
    assert parse_rerank(body) == RerankRequest("q", ("a",), top_n=9, return_documents=True, raw_scores=True)


@pytest.mark.parametrize(
    ("body", "words", "param"),
    [
        ({"documents": ["a"]}, "query must be a text that is not empty", "query"),
        ({"query": "", "documents": ["a"]}, "query must be a text that is not empty", "query"),
        ({"query": "q"}, "documents must be a list of 1 to 1000 texts or {text} objects", "documents"),
        ({"query": "q", "documents": []}, "documents must be a list of 1 to 1000", "documents"),
        ({"query": "q", "documents": ["a"] * 1001}, "documents must be a list of 1 to 1000", "documents"),
        ({"query": "q", "documents": ["a", {"body": "secret"}]}, "documents[1] must be a text, or", "documents[1]"),
        ({"query": "q", "documents": [["secret"]]}, "documents[0] must be a text, or", "documents[0]"),
        ({"query": "q", "documents": ["a", ""]}, "documents[1] is empty", "documents[1]"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "top_n must be a whole number from 1", "top_n"),
        ({"query": "q", "documents": ["a"], "return_documents": "yes"}, "must be true or false", "return_documents"),
    ],
)
def test_faults_are_named_and_not_quoted(body, words, param):
    with pytest.raises(BadRequestError) as caught:
        parse_rerank(body)
    assert words in caught.value.message
    assert "secret" not in caught.value.message
    assert caught.value.param == param
