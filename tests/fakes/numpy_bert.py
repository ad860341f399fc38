"""BERT's forward pass in plain numpy, float64: what llama.cpp is held against.

As transformers' `BertModel`: post-norm layers, GELU by erf, token type 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


class Bert:
    """`weights` by the names that transformers gives them."""

    def __init__(self, weights: dict[str, np.ndarray], heads: int, eps: float) -> None:
        self._weights = {name: array.astype(np.float64) for name, array in weights.items()}
        self._heads = heads
        self._eps = eps
        self._layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))

    def hidden(self, ids: Sequence[int]) -> np.ndarray:
        """The last layer's vectors, a row a token; one text at a time."""
        table = self._weights
        x = table["embeddings.word_embeddings.weight"][list(ids)]
        x = x + table["embeddings.position_embeddings.weight"][: len(ids)]
        x = x + table["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for number in range(self._layers):
            x = self._layer(x, f"encoder.layer.{number}")
        return x

    def score(self, ids: Sequence[int]) -> float:
        """A one-output classifier's logit: the first token through a dense tanh layer and a projection."""
        first = np.tanh(self._linear(self.hidden(ids)[:1], "classifier.dense"))
        return self._linear(first, "classifier.out_proj").item()

    def _layer(self, x: np.ndarray, at: str) -> np.ndarray:
        mixed = self._linear(self._attention(x, f"{at}.attention.self"), f"{at}.attention.output.dense")
        x = self._norm(x + mixed, f"{at}.attention.output.LayerNorm")
        inner = _gelu(self._linear(x, f"{at}.intermediate.dense"))
        return self._norm(x + self._linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")

    def _attention(self, x: np.ndarray, at: str) -> np.ndarray:
        q, k, v = (self._split(self._linear(x, f"{at}.{part}")) for part in ("query", "key", "value"))
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return (shares @ v).transpose(1, 0, 2).reshape(x.shape)

    def _split(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), self._heads, -1).transpose(1, 0, 2)

    def _linear(self, x: np.ndarray, at: str) -> np.ndarray:
        return x @ self._weights[f"{at}.weight"].T + self._weights[f"{at}.bias"]

    def _norm(self, x: np.ndarray, at: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self._eps)
        return centred / scale * self._weights[f"{at}.weight"] + self._weights[f"{at}.bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    erf = np.vectorize(math.erf)
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))
