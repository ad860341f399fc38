"""A tiny random llama as a GGUF file: half a megabyte, deterministic, loads in milliseconds.

Any text tokenises (single characters, some longer pieces, 256 byte tokens) and detokenises to itself; no space is
put in front. Its words mean nothing. It speaks ChatML, so `<|im_end|>` and `</s>` end a reply; both, and the byte
tokens, are unlikely at temperature 0, so replies run to `max_tokens` unless a test biases them.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

UNK, BOS, EOS, IM_START, IM_END = range(5)
SPECIALS = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
FIRST_BYTE = len(SPECIALS)
"""Id of byte token `<0x00>`; the 255 others follow it."""

WORDS = ("▁the", "▁and", "▁of", "▁a", "▁in", "▁is", "er", "on", "an", "th", "he", "in", "re", "st", "é", "ü", "ß")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class _Shape:
    embd: int = 64
    heads: int = 4
    kv_heads: int = 2
    ff: int = 128
    layers: int = 2

    @property
    def head_dim(self) -> int:
        return self.embd // self.heads


def write_tiny_llama(
    path: Path,
    *,
    seed: int = 0,
    n_ctx: int = 2048,
    vocab: Sequence[str] = WORDS,
    chat_template: str | None = CHAT_TEMPLATE,
    control: Sequence[str] = (),
    metadata: Mapping[str, int] | None = None,
    split: int = 0,
) -> Path:
    """Write the model to `path` and return it. Same arguments, same bytes.

    `vocab` holds the pieces longer than one character (`▁` is a space), the most mergeable first; `control` more
    control tokens, which get the last ids; `metadata` more numbers for the file (token ids of the tokenizer).
    `split`: the most tensors of a part; then it comes in several files, and the first one is returned.
    """
    pieces = [*_pieces(vocab), *control]
    shape = _Shape()
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split)
    _add_hyperparameters(writer, shape, n_ctx=n_ctx, n_vocab=len(pieces))
    _add_tokenizer(writer, pieces, chat_template, controls=len(control))
    for key, value in (metadata or {}).items():
        writer.add_uint32(key, value)
    _add_weights(writer, shape, n_vocab=len(pieces), rng=np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return min(path.parent.glob(f"{path.stem}-00001-of-*.gguf")) if split else path


def _pieces(vocab: Sequence[str]) -> list[str]:
    raw = [f"<0x{byte:02X}>" for byte in range(256)]
    singles = ["▁", "\n", *string.ascii_letters, *string.digits, *string.punctuation]
    return [*SPECIALS, *raw, *dict.fromkeys([*singles, *vocab])]


def _add_hyperparameters(writer: gguf.GGUFWriter, shape: _Shape, *, n_ctx: int, n_vocab: int) -> None:
    writer.add_name("tiny-random-llama")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(shape.embd)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(n_vocab)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_tokenizer(writer: gguf.GGUFWriter, pieces: list[str], chat_template: str | None, *, controls: int) -> None:
    first_piece = FIRST_BYTE + 256
    types = [
        gguf.TokenType.UNKNOWN,
        *[gguf.TokenType.CONTROL] * (FIRST_BYTE - 1),
        *[gguf.TokenType.BYTE] * 256,
        *[gguf.TokenType.NORMAL] * (len(pieces) - first_piece - controls),
        *[gguf.TokenType.CONTROL] * controls,
    ]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0] * first_piece + [-float(i) for i in range(len(pieces) - first_piece)])
    writer.add_token_types(types)
    writer.add_unk_token_id(UNK)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_eot_token_id(IM_END)
    writer.add_add_bos_token(value=True)
    writer.add_add_space_prefix(value=False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def _add_weights(writer: gguf.GGUFWriter, shape: _Shape, *, n_vocab: int, rng: np.random.Generator) -> None:
    def matrix(rows: int, cols: int, gain: float = 1.0) -> np.ndarray:
        return (rng.standard_normal((rows, cols)) * gain / np.sqrt(cols)).astype(np.float32)

    ones = np.ones(shape.embd, dtype=np.float32)
    kv = shape.kv_heads * shape.head_dim
    writer.add_tensor("token_embd.weight", matrix(n_vocab, shape.embd, gain=8.0))
    for i in range(shape.layers):
        writer.add_tensor(f"blk.{i}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{i}.attn_q.weight", matrix(shape.embd, shape.embd, gain=2.0))
        writer.add_tensor(f"blk.{i}.attn_k.weight", matrix(kv, shape.embd, gain=2.0))
        writer.add_tensor(f"blk.{i}.attn_v.weight", matrix(kv, shape.embd, gain=2.0))
        writer.add_tensor(f"blk.{i}.attn_output.weight", matrix(shape.embd, shape.embd, gain=2.0))
        writer.add_tensor(f"blk.{i}.ffn_norm.weight", ones)
        writer.add_tensor(f"blk.{i}.ffn_gate.weight", matrix(shape.ff, shape.embd))
        writer.add_tensor(f"blk.{i}.ffn_up.weight", matrix(shape.ff, shape.embd))
        writer.add_tensor(f"blk.{i}.ffn_down.weight", matrix(shape.embd, shape.ff, gain=4.0))
    writer.add_tensor("output_norm.weight", ones)
    output = matrix(n_vocab, shape.embd, gain=4.0)
    output[: FIRST_BYTE + 256] *= 0.1  # a temperature-0 reply is printable and does not end by itself
    writer.add_tensor("output.weight", output)
