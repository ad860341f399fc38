"""Makes `tests/data/minilm_reference.json`: what sentence-transformers' pipeline gives for all-MiniLM-L6-v2.

    pip install tokenizers && python -m tests.fakes.minilm_reference

Independent of llama.cpp and of our GGUF: Hugging Face's `tokenizers` reads the model's own `tokenizer.json`, and
`tests.fakes.numpy_bert` runs the f32 weights of the published safetensors in numpy, in float64. Then what
`modules.json` names: the mean over all tokens, `[CLS]` and `[SEP]` included, and L2 normalisation. PyTorch was not
used; that the result is the published model's is seen from the similarities of the first three texts, which
sentence-transformers' documentation prints to four digits.
"""

from __future__ import annotations

import base64
import json
import zipfile
from pathlib import Path

import numpy as np

from tests.fakes.minilm import PACKAGE, SHA256, VERSION, read_json, read_weights, wheel
from tests.fakes.numpy_bert import Bert

PATH = Path(__file__).resolve().parents[1] / "data" / "minilm_reference.json"
PUBLISHED = ((1.0, 0.6660, 0.1046), (0.6660, 1.0, 0.1411), (0.1046, 0.1411, 1.0))
"""https://sbert.net/docs/sentence_transformer/usage/usage.html: similarities of its three sentences, our first."""

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
    means = np.stack([bert.hidden(ids).mean(axis=0) for ids in tokens])
    vectors = means / np.linalg.norm(means, axis=1, keepdims=True)
    off = np.abs((vectors @ vectors.T)[:3, :3] - PUBLISHED).max()
    assert off < 5.1e-5, f"the published similarities are missed by {off}"
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


if __name__ == "__main__":
    main()
