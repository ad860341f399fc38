"""Why a GGUF did not load, in words and stable codes. What can be seen from outside is checked before loading."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tasks.errors import WorkerError

_SPLIT = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf$")

# The first pattern found in llama.cpp's complaints decides; specific ones stand before general ones.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"unknown (model architecture|pre-tokenizer type|tokenizer)|unsupported model architecture",
        "unsupported_architecture",
        "this version of llama.cpp does not know the model's architecture or tokenizer; update llama-cpp-python",
    ),
    (
        r"unable to allocate|failed to allocate|out of memory|bad_alloc|cannot allocate memory|mlock",
        "out_of_memory",
        "there is not enough memory for it; use a smaller quantisation, offload fewer layers or free memory",
    ),
    (
        r"cache type .* does not divide|cache quantization requires",
        "model_load_failed",
        "the configured cache_type_k or cache_type_v does not suit this model; set f16 in PENDRA_MODEL_OPTIONS",
    ),
    (
        r"failed to load GGUF split|invalid split|illegal split",
        "missing_split",
        "one of its parts is missing or does not belong to it; install the model again",
    ),
    (
        (
            r"corrupt|not within the file bounds|invalid magic|invalid data|missing tensor|wrong number of tensors|"
            r"failed to read|failed to load model from|key not found|wrong shape|duplicated|tensor '.*' not found|"
            r"gguf_init|read error|unexpectedly reached end"
        ),
        "model_corrupt",
        "the file is damaged or incomplete; install the model again",
    ),
)


def check_file(path: Path) -> None:
    """Raise WorkerError for what is wrong before llama.cpp is asked: no file, not a GGUF, a missing part."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as exc:
        raise WorkerError(
            f"cannot read the model file {path.name}: {exc.strerror}", code="model_load_failed"
        ) from None
    if magic != b"GGUF":
        raise WorkerError(f"{path.name} is not a GGUF file; install the model again", code="model_corrupt")
    split = _SPLIT.match(path.name)
    if split:
        _check_parts(path, split)


def _check_parts(path: Path, split: re.Match[str]) -> None:
    stem, count = split["stem"], int(split["count"])
    if int(split["part"]) != 1:
        raise WorkerError(f"{path.name} is a later part of a split model; load its first part", code="missing_split")
    parts = [f"{stem}-{part:05d}-of-{count:05d}.gguf" for part in range(1, count + 1)]
    missing = [name for name in parts if not path.with_name(name).exists()]
    if missing:
        raise WorkerError(
            f"the model {stem} comes in {count} parts and {len(missing)} are missing, the first is {missing[0]}; "
            "install the model again",
            code="missing_split",
        )


def load_error(path: Path, complaints: Sequence[str]) -> WorkerError:
    """The error for what llama.cpp complained about while loading a model or making a context."""
    said = "\n".join(complaints)
    for pattern, code, meaning in _CAUSES:
        if re.search(pattern, said, re.IGNORECASE):
            return WorkerError(f"cannot load {path.name}: {meaning}", code=code)
    last = f" (llama.cpp: {complaints[-1]})" if complaints else ""
    return WorkerError(f"cannot load {path.name}{last}", code="model_load_failed")
