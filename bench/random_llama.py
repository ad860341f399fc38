"""Writes a llama of any shape with random weights, tensor by tensor.

It costs what a real model of its shape costs: the same tensors in the same blocks. What it says are words without
sense. Tokenizer and chat template are another model's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np

F32, Q4_0, Q8_0 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0
FILE_TYPES = {Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0, Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0}
SPREADS = {Q4_0: 4.64, Q8_0: 73.9}
"""Standard deviation of a value of random bits, in units of its block's scale."""
LOGITS_SPREAD = 4.0


@dataclass(frozen=True)
class Shape:
    """`vocab`: tokens beyond the tokenizer's are unused ones; 0 = as many as it has."""

    layers: int
    embd: int
    ff: int
    heads: int
    kv_heads: int
    vocab: int = 0
    ctx: int = 8192
    rope_base: float = 500_000.0

    @property
    def kv(self) -> int:
        return self.embd // self.heads * self.kv_heads

    @property
    def parameters(self) -> int:
        layer = self.embd * (2 * self.embd + 2 * self.kv + 3 * self.ff + 2)
        return self.layers * layer + self.embd * (2 * self.vocab + 1)

    def check(self) -> None:
        """Raises ValueError for what llama.cpp could not compute with."""
        if min(self.layers, self.embd, self.ff, self.heads, self.kv_heads, self.ctx) < 1 or self.vocab < 0:
            raise ValueError("layers, embd, ff, heads, kv-heads and ctx must be 1 or more, vocab 0 or more")
        if self.embd % 32 or self.ff % 32:
            raise ValueError("embd and ff must be multiples of 32, the size of a block")
        if self.embd % (2 * self.heads) or self.heads % self.kv_heads:
            raise ValueError("embd must be a multiple of twice heads, and heads one of kv-heads")


@dataclass(frozen=True)
class Tensor:
    """`spread`: standard deviation of its values; 0 = all are one, in 32 bits. `rows` = 0: a vector."""

    name: str
    rows: int
    cols: int
    spread: float = 0.0


class Tokenizer:
    """That of a GGUF file, its chat template included."""

    def __init__(self, path: Path) -> None:
        fields_of = gguf.GGUFReader(path).fields
        self._fields = {name: field for name, field in fields_of.items() if name.startswith("tokenizer.")}
        if "tokenizer.ggml.tokens" not in self._fields:
            raise ValueError(f"{path} holds no tokenizer; name a chat model's GGUF")
        self.tokens: list[str] = self._fields["tokenizer.ggml.tokens"].contents()

    def write(self, writer: gguf.GGUFWriter, vocab: int) -> None:
        """As the file has it, filled up to `vocab` tokens."""
        unused = range(vocab - len(self.tokens))
        more: dict[str, list[Any]] = {
            "tokenizer.ggml.tokens": [f"[UNUSED{number}]" for number in unused],
            "tokenizer.ggml.token_type": [int(gguf.TokenType.UNUSED)] * len(unused),
            "tokenizer.ggml.scores": [0.0] * len(unused),
        }
        for name, field in self._fields.items():
            kind, item = field.types[0], field.types[-1] if len(field.types) > 1 else None
            value = field.contents()
            writer.add_key_value(name, value + more[name] if name in more else value, kind, item)

    def speakable(self, vocab: int) -> np.ndarray[Any, Any]:
        """A row a token: may the model say it? Whole words in letters only, so that every token shows as text."""
        bare = [token.lstrip("Ġ▁") for token in self.tokens]
        words = [text.isascii() and text.isalpha() for text in bare]
        return np.array(words + [False] * (vocab - len(words)))


def write_model(path: Path, shape: Shape, quant: gguf.GGMLQuantizationType, tokenizer: Tokenizer, seed: int) -> Path:
    """Write the model; same arguments, same bytes. Holds one tensor in memory. Raises ValueError for a bad shape."""
    shape = fitting(shape, tokenizer)
    part = path.with_name(f".{path.name}.part")
    writer = gguf.GGUFWriter(part, "llama")
    try:
        _describe(writer, path.stem, shape, quant)
        tokenizer.write(writer, shape.vocab)
        _fill(writer, shape, quant, tokenizer, np.random.Generator(np.random.SFC64(seed)))
        writer.close()
        part.rename(path)
    finally:
        writer.close()
        part.unlink(missing_ok=True)
    return path


def size_of(shape: Shape, quant: gguf.GGMLQuantizationType, tokenizer: Tokenizer) -> int:
    """Bytes of its tensors."""
    return sum(_bytes(tensor, quant) for tensor in _tensors(fitting(shape, tokenizer)))


def fitting(shape: Shape, tokenizer: Tokenizer) -> Shape:
    """With the vocabulary it gets. Raises ValueError."""
    shape.check()
    least = len(tokenizer.tokens)
    if 0 < shape.vocab < least:
        raise ValueError(f"vocab must be {least} or more, which the tokenizer has")
    return shape if shape.vocab else replace(shape, vocab=least)


def _describe(writer: gguf.GGUFWriter, name: str, shape: Shape, quant: gguf.GGMLQuantizationType) -> None:
    writer.add_type("model")
    writer.add_name(name)
    writer.add_size_label(f"{shape.parameters / 1e9:.1f}B")
    writer.add_context_length(shape.ctx)
    writer.add_embedding_length(shape.embd)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.embd // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(FILE_TYPES[quant])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _fill(
    writer: gguf.GGUFWriter,
    shape: Shape,
    quant: gguf.GGMLQuantizationType,
    tokenizer: Tokenizer,
    rng: np.random.Generator,
) -> None:
    tensors = list(_tensors(shape))
    for tensor in tensors:
        kind = quant if tensor.spread else F32
        dims = (tensor.rows, tensor.cols) if tensor.rows else (tensor.cols,)
        writer.add_tensor_info(tensor.name, dims, np.dtype(np.float32), _bytes(tensor, quant), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        silent = ~tokenizer.speakable(shape.vocab) if tensor.name == "output.weight" else None
        writer.write_tensor_data(_values(tensor, quant, rng, silent))


def _tensors(shape: Shape) -> Iterator[Tensor]:
    """All of them, in the file's order. Each matrix keeps the spread of what it is multiplied with."""

    def matrix(name: str, rows: int, cols: int, gain: float = 1.0) -> Tensor:
        return Tensor(f"{name}.weight", rows, cols, gain / cols**0.5)

    embd, kv, ff = shape.embd, shape.kv, shape.ff
    yield Tensor("token_embd.weight", shape.vocab, embd, 1.0)
    for i in range(shape.layers):
        yield Tensor(f"blk.{i}.attn_norm.weight", 0, embd)
        for name, rows in (("attn_q", embd), ("attn_k", kv), ("attn_v", kv), ("attn_output", embd)):
            yield matrix(f"blk.{i}.{name}", rows, embd)
        yield Tensor(f"blk.{i}.ffn_norm.weight", 0, embd)
        yield matrix(f"blk.{i}.ffn_gate", ff, embd)
        yield matrix(f"blk.{i}.ffn_up", ff, embd)
        yield matrix(f"blk.{i}.ffn_down", embd, ff)
    yield Tensor("output_norm.weight", 0, embd)
    yield matrix("output", shape.vocab, embd, LOGITS_SPREAD)


def _bytes(tensor: Tensor, quant: gguf.GGMLQuantizationType) -> int:
    per, size = gguf.GGML_QUANT_SIZES[quant if tensor.spread else F32]
    return int(max(tensor.rows, 1) * tensor.cols // per * size)


def _values(
    tensor: Tensor, quant: gguf.GGMLQuantizationType, rng: np.random.Generator, silent: np.ndarray[Any, Any] | None
) -> np.ndarray[Any, Any]:
    """Blocks of random bits, each with a scale of random sign, so that their mean, not quite 0, does not add up.

    Rows that are `silent` are zero.
    """
    if not tensor.spread:
        return np.ones(tensor.cols, dtype=np.float32)
    per, size = gguf.GGML_QUANT_SIZES[quant]
    blocks = np.frombuffer(bytearray(rng.bytes(_bytes(tensor, quant))), dtype=np.uint8)
    blocks = blocks.reshape(tensor.rows, tensor.cols // per, size)
    scales = np.where(blocks[..., 0] & 1, 1, -1) * (tensor.spread / SPREADS[quant])
    if silent is not None:
        scales[silent] = 0.0
    blocks[..., :2] = scales.astype("<f2")[..., None].view(np.uint8)
    return blocks
