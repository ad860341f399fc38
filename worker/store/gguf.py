"""What a GGUF is, from its header alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from tasks.errors import PendraError, WorkerError
from worker.store.gguf_reader import FormatError, Header, Value, read_header
from worker.store.gguf_types import FILE_TYPES

_BUFFER = 1 << 20
_F16_BYTES = 2
_BILLION, _MILLION, _THOUSAND = 10**9, 10**6, 10**3
_SPLIT = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})$")


class Pooling(IntEnum):
    """llama.cpp's pooling types: how an embedding (or a rank) is made of a text's tokens."""

    NONE = 0
    MEAN = 1
    CLS = 2
    LAST = 3
    RANK = 4


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """A model file's facts. None = the file does not say.

    `kind` is the file's own word (`model`, `adapter`, `mmproj`). `parameters` counts this file's values only, so for
    a split model `size_label` says more. `state_bytes_per_slot`: memory of a recurrent model for one sequence.
    """

    architecture: str
    kind: str
    name: str | None
    context_length: int | None
    embedding_length: int | None
    block_count: int | None
    head_count: tuple[int, ...]
    head_count_kv: tuple[int, ...]
    key_length: int | None
    value_length: int | None
    quantisation: str | None
    parameters: int
    size_label: str | None
    has_chat_template: bool
    pooling: Pooling | None
    split_count: int
    feed_forward_length: int | None = None
    vocab_size: int = 0
    state_bytes_per_slot: int = 0

    @property
    def parameter_size(self) -> str | None:
        """Like `135M` or `7.6B`."""
        if self.split_count > 1 or not self.parameters:
            return self.size_label
        return short_count(self.parameters)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache a token takes at f16: an upper bound (sliding windows take less). 0 = no attention."""
        return self.kv_bytes(_F16_BYTES, _F16_BYTES)

    def kv_bytes(self, of_key: float, of_value: float) -> int:
        """The same, with so many bytes a number of the keys and of the values."""
        blocks = self.block_count or 0
        heads = self.head_count_kv or self.head_count
        of_layers = heads * blocks if len(heads) == 1 else heads[:blocks]
        width = self._width(self.key_length) * of_key + self._width(self.value_length) * of_value
        return math.ceil(sum(of_layers) * width)

    def _width(self, length: int | None) -> int:
        most = max(self.head_count, default=0)
        return length if length is not None else (self.embedding_length or 0) // most if most else 0


@dataclass(frozen=True, slots=True)
class Split:
    """One file of a model that comes in several: `part` counts from 1."""

    stem: str
    part: int
    count: int

    def name(self, part: int) -> str:
        return f"{self.stem}-{part:05d}-of-{self.count:05d}.gguf"


def split_of(path: Path) -> Split | None:
    """What a file's name says about being one part of several."""
    match = _SPLIT.match(path.stem)
    return Split(match["stem"], int(match["part"]), int(match["count"])) if match else None


def read_gguf(path: Path) -> GgufInfo:
    """The facts of the file at `path`. Blocking I/O, some 100 ms for a large vocabulary.

    Raises WorkerError: `model_corrupt` for a file that is no usable GGUF, `model_load_failed` when it cannot be read.
    """
    try:
        with path.open("rb", buffering=_BUFFER) as file:
            return describe(read_header(file))
    except FormatError as exc:
        raise corrupt(path, str(exc)) from None
    except OSError as exc:
        why = exc.strerror or type(exc).__name__
        raise WorkerError(f"the model file {path.name} cannot be read: {why}", code="model_load_failed") from None


def corrupt(path: Path, why: str) -> PendraError:
    message = f"{path.name} is not a usable GGUF file: {why}; install the model again"
    return WorkerError(message, code="model_corrupt")


def describe(header: Header) -> GgufInfo:
    """Pure. Raises FormatError when what every model must say is missing."""
    meta = header.meta
    architecture = _word(meta.get("general.architecture"))
    if not architecture:
        raise FormatError("it does not name an architecture")

    def own(key: str) -> Value | None:
        return meta.get(f"{architecture}.{key}")

    return GgufInfo(
        architecture=architecture,
        kind=_word(meta.get("general.type")) or "model",
        name=_word(meta.get("general.name")),
        context_length=_number(own("context_length")),
        embedding_length=_number(own("embedding_length")),
        block_count=_number(own("block_count")),
        head_count=_numbers(own("attention.head_count")),
        head_count_kv=_numbers(own("attention.head_count_kv")),
        key_length=_number(own("attention.key_length")),
        value_length=_number(own("attention.value_length")),
        quantisation=FILE_TYPES.get(_number(meta.get("general.file_type")) or 0)
        if "general.file_type" in meta
        else None,
        parameters=header.parameters,
        size_label=_word(meta.get("general.size_label")),
        has_chat_template="tokenizer.chat_template" in meta,
        pooling=_pooling(own("pooling_type")),
        split_count=_number(meta.get("split.count")) or 1,
        feed_forward_length=max(_numbers(own("feed_forward_length")), default=None),
        vocab_size=header.lengths.get("tokenizer.ggml.tokens", 0),
        state_bytes_per_slot=_state_bytes(own),
    )


def _state_bytes(own: Callable[[str], Value | None]) -> int:
    """What a recurrent model remembers of one sequence, as llama.cpp has it: float32, in every block at most."""
    conv, inner, state, groups = (
        _number(own(f"ssm.{name}")) or 0 for name in ("conv_kernel", "inner_size", "state_size", "group_count")
    )
    window = max(0, conv - 1) * (inner + 2 * groups * state)
    return (window + inner * state) * 4 * (_number(own("block_count")) or 0)


def short_count(count: int) -> str:
    """A number of parameters as people say it: `135M`, `1.7B`, `70B`."""
    if count >= _BILLION - _MILLION // 2:
        return f"{count / _BILLION:.1f}".removesuffix(".0") + "B"
    if count >= _MILLION - _THOUSAND // 2:
        return f"{round(count / _MILLION)}M"
    return f"{round(count / _THOUSAND)}K" if count >= _THOUSAND else str(count)


def _word(value: Value | None) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Value | None) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _numbers(value: Value | None) -> tuple[int, ...]:
    """Of the whole model, or layer by layer."""
    if isinstance(value, tuple):
        return tuple(max(0, number) for number in value)
    number = _number(value)
    return () if number is None else (number,)


def _pooling(value: Value | None) -> Pooling | None:
    number = _number(value)
    return Pooling(number) if number in set(Pooling) else None
