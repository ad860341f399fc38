"""Makes `tests/data/minilm_reference.json`: what sentence-transformers' pipeline gives for all-MiniLM-L6-v2.

    pip install tokenizers && python -m tests.fakes.minilm_reference

Independent of llama.cpp and of our GGUF: Hugging Face's `tokenizers` reads the model's own `tokenizer.json`, and
BERT's forward pass below is plain numpy in float64 on the f32 weights of the published safetensors (transformers'
`BertModel`: post-norm layers, GELU by erf, token type 0). Then what `modules.json` names: the mean over all tokens,
`[CLS]` and `[SEP]` included, and L2 normalisation. PyTorch was not used; that the result is the published model's is
seen from the similarities of the first three texts, which sentence-transformers' quickstart prints to four digits.
"""

from __future__ import annotations

import base64
import json
import math
import zipfile
from pathlib import Path

import numpy as np

from tests.fakes.minilm import PACKAGE, SHA256, VERSION, read_json, read_weights, wheel

PATH = Path(__file__).resolve().parents[1] / "data" / "minilm_reference.json"
QUICKSTART = ((1.0, 0.6660, 0.1046), (0.6660, 1.0, 0.1411), (0.1046, 0.1411, 1.0))
"""https://sbert.net/docs/quickstart.html: `model.similarity` of its three sentences, our first three."""

TEXTS = (
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "a",
    "Größenwahn im Café, naïve façade: déjà vu.",
    "Привет, мир! 🙂 東京は日本の首都です",
    "def add(a, b):\n    return a + b  # 12,345.67 e-mail@host.example",
    "What is in a [SEP] token, and who put the [MASK] there?",
    "The quick brown fox jumps over the lazy dog. " * 20,
)


def load() -> tuple[list[str], np.ndarray]:
    """The stored texts and their vectors, a row each."""
    stored = json.loads(PATH.read_text())
    rows = [np.frombuffer(base64.b64decode(vector), dtype="<f4") for vector in stored["vectors"]]
    return stored["texts"], np.stack(rows)


def main() -> None:
    from tokenizers import Tokenizer

    with zipfile.ZipFile(wheel()) as files:
        tokenizer = Tokenizer.from_str(json.dumps(read_json(files, "tokenizer.json")))
        config, weights = read_json(files, "config.json"), read_weights(files)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    bert = Bert(weights, config["num_attention_heads"], config["layer_norm_eps"])
    tokens = [tokenizer.encode(text).ids for text in TEXTS]
    vectors = np.stack([bert.embed(ids) for ids in tokens])
    off = np.abs((vectors @ vectors.T)[:3, :3] - QUICKSTART).max()
    assert off < 5.1e-5, f"the quickstart's similarities are missed by {off}"
    stored = {
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "weights": f"PyPI {PACKAGE} {VERSION}, sha256 {SHA256}",
        "made_by": "python -m tests.fakes.minilm_reference (numpy, float64; see there)",
        "format": "base64 of little-endian float32, normalised",
        "texts": list(TEXTS),
        "tokens": tokens,
        "vectors": [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors],
    }
    PATH.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")


class Bert:
    """The encoder and its pooling, one text at a time."""

    def __init__(self, weights: dict[str, np.ndarray], heads: int, eps: float) -> None:
        self._weights = {name: array.astype(np.float64) for name, array in weights.items()}
        self._heads = heads
        self._eps = eps
        self._layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))

    def embed(self, ids: list[int]) -> np.ndarray:
        table = self._weights
        x = table["embeddings.word_embeddings.weight"][ids]
        x = x + table["embeddings.position_embeddings.weight"][: len(ids)]
        x = x + table["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for number in range(self._layers):
            x = self._layer(x, f"encoder.layer.{number}")
        pooled = x.mean(axis=0)
        return pooled / np.linalg.norm(pooled)

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


if __name__ == "__main__":
    main()
