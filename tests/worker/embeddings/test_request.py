"""What an embeddings request may look like, and what is said when it does not."""

from __future__ import annotations

import pytest

from tasks.errors import BadRequestError
from worker.embeddings.request import EmbeddingsRequest, parse_embeddings


@pytest.mark.parametrize(
    ("value", "inputs", "single"),
    [
        ("hi", ("hi",), True),
        (["hi", "ho"], ("hi", "ho"), False),
        (["hi"], ("hi",), False),
        ([1, 2], ((1, 2),), True),
        ([[1, 2], [3]], ((1, 2), (3,)), False),
        (["hi", [3]], ("hi", (3,)), False),
    ],
)
def test_inputs(value, inputs, single):
    assert parse_embeddings({"input": value}) == EmbeddingsRequest(inputs, single=single)


def test_options():
    body = {"input": "a", "encoding_format": "base64", "dimensions": 3, "embd_normalize": -1, "user": "u", "x": 1}
    assert parse_embeddings(body) == EmbeddingsRequest(("a",), single=True, base64=True, dimensions=3, norm=-1)


def test_null_is_not_given():
    body = {"input": "a", "encoding_format": None, "dimensions": None, "embd_normalize": None}
    assert parse_embeddings(body) == EmbeddingsRequest(("a",), single=True)


@pytest.mark.parametrize(
    ("body", "words", "param"),
    [
        ({}, "input must be given: a text, a list of texts", "input"),
        ({"input": None}, "input must be a text, a list of texts", "input"),
        ({"input": {"text": "secret"}}, "input must be a text", "input"),
        ({"input": ""}, "input is empty", "input"),
        ({"input": []}, "input is an empty list", "input"),
        ({"input": ["a", ""]}, "input[1] is empty", "input[1]"),
        ({"input": [[1], []]}, "input[1] is empty", "input[1]"),
        ({"input": ["a", 7]}, "input[1] must be a text or a list of token ids", "input[1]"),
        ({"input": [7, "secret"]}, "input must hold token ids (whole numbers from 0) only", "input"),
        ({"input": [[7, -1]]}, "input[0] must hold token ids", "input[0]"),
        ({"input": [[7, True]]}, "input[0] must hold token ids", "input[0]"),
        ({"input": [1.5]}, "input[0] must be a text", "input[0]"),
        ({"input": ["a"] * 2049}, "input holds 2049 entries; 2048 at most", "input"),
        (
            {"input": "a", "encoding_format": "secret"},
            'encoding_format must be "float" or "base64"',
            "encoding_format",
        ),
        ({"input": "a", "dimensions": 0}, "dimensions must be a whole number from 1", "dimensions"),
        ({"input": "a", "dimensions": "3"}, "dimensions must be a whole number from 1", "dimensions"),
        ({"input": "a", "embd_normalize": -2}, "embd_normalize must be a whole number", "embd_normalize"),
    ],
)
def test_faults_are_named_and_not_quoted(body, words, param):
    with pytest.raises(BadRequestError) as caught:
        parse_embeddings(body)
    assert words in caught.value.message
    assert "secret" not in caught.value.message
    assert (caught.value.param, caught.value.code) == (param, "bad_request")
