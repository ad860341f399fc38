"""`<gguf>.meta.json`: what an installed file is for and where it came from, so that nobody guesses from its name."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from tasks.contract import Frozen
from tasks.model_options import LoraRef

SUFFIX = ".meta.json"


class Part(Frozen):
    """One file of a split model."""

    name: str
    sha256: str
    size: int


class Sidecar(Frozen):
    """`purpose` is chat, embedding, rerank, image or transcription; `source` carries no credentials.

    `sha256` and `size` are those of the GGUF beside it; `parts` lists all files of a split model, that one included.
    `lora` names adapters by their paths in the store; an operator writes them in.
    """

    id: str
    purpose: str
    source: str
    revision: str = ""
    sha256: str
    size: int
    licence: str = ""
    installed_at: float
    parts: tuple[Part, ...] = ()
    lora: tuple[LoraRef, ...] = ()


def path_of(gguf: Path) -> Path:
    return gguf.with_name(gguf.name + SUFFIX)


def read(gguf: Path) -> Sidecar | None:
    """The sidecar of a GGUF; None when there is none or it cannot be used (the file counts as dropped in by hand)."""
    try:
        return Sidecar.model_validate_json(path_of(gguf).read_bytes())
    except (OSError, ValidationError):
        return None


class _Adapters(Frozen):
    lora: tuple[LoraRef, ...] = ()


def adapters_of(gguf: Path) -> tuple[LoraRef, ...]:
    """The adapters that an operator wrote into a sidecar, usable or short, so that a new one keeps them."""
    try:
        return _Adapters.model_validate_json(path_of(gguf).read_bytes()).lora
    except (OSError, ValidationError):
        return ()


def dump(sidecar: Sidecar) -> str:
    return sidecar.model_dump_json(indent=2) + "\n"
