"""Writes a small random BERT as a GGUF: encodes texts or ranks pairs, deterministic, loads in milliseconds.

Lower-case letters and digits tokenise, one by one unless they are in `WORDS`; its vectors mean nothing.
The same weights feed `tests.fakes.numpy_bert`, so what llama.cpp makes of them can be checked.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from tests.fakes.bert_gguf import SPECIALS, BertConfig, write_bert
from tests.fakes.numpy_bert import Bert

WORDS = ("the", "cat", "dog", "sat", "on", "mat", "paris", "berlin", "capital", "of", "##ing")
VOCAB = (*SPECIALS, *string.ascii_lowercase, *string.digits, *".,?!",
         *(f"##{char}" for char in string.ascii_lowercase + string.digits), *WORDS)  # fmt: skip
EPS = 1e-12
_EMBD, _HEADS, _FF, _LAYERS = 32, 4, 64, 2


@dataclass(frozen=True)
class TinyBert:
    """The file, and the same model in numpy."""

    path: Path
    numpy: Bert


def write_tiny_bert(
    path: Path, *, pooling: gguf.PoolingType = gguf.PoolingType.MEAN, n_ctx: int = 64, seed: int = 0
) -> TinyBert:
    """A model that pools so; with RANK it has a classifier of one output. Same arguments, same bytes."""
    weights = _weights(n_ctx, np.random.default_rng(seed), ranks=pooling is gguf.PoolingType.RANK)
    config = BertConfig("tiny-random-bert", n_ctx, _EMBD, _LAYERS, _HEADS, _FF, pooling, EPS)
    write_bert(path, config, VOCAB, weights)
    return TinyBert(path, Bert(weights, _HEADS, EPS))


def _weights(n_ctx: int, rng: np.random.Generator, *, ranks: bool) -> dict[str, np.ndarray]:
    table: dict[str, np.ndarray] = {}

    def put(name: str, *shape: int, gain: float = 1.0) -> None:
        table[name] = (rng.standard_normal(shape) * gain).astype(np.float32)

    def linear(name: str, rows: int, cols: int) -> None:
        put(f"{name}.weight", rows, cols, gain=2 / np.sqrt(cols))
        put(f"{name}.bias", rows, gain=0.1)

    def norm(name: str) -> None:
        put(f"{name}.bias", _EMBD, gain=0.1)
        table[f"{name}.weight"] = 1 + 0.1 * rng.standard_normal(_EMBD).astype(np.float32)

    put("embeddings.word_embeddings.weight", len(VOCAB), _EMBD)
    put("embeddings.position_embeddings.weight", n_ctx, _EMBD, gain=0.3)
    put("embeddings.token_type_embeddings.weight", 2, _EMBD, gain=0.3)
    norm("embeddings.LayerNorm")
    for number in range(_LAYERS):
        at = f"encoder.layer.{number}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            linear(f"{at}.{part}", _EMBD, _EMBD)
        linear(f"{at}.intermediate.dense", _FF, _EMBD)
        linear(f"{at}.output.dense", _EMBD, _FF)
        norm(f"{at}.attention.output.LayerNorm")
        norm(f"{at}.output.LayerNorm")
    if ranks:
        linear("classifier.dense", _EMBD, _EMBD)
        linear("classifier.out_proj", 1, _EMBD)
    return table
