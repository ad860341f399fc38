"""A tiny llama that can only count: after each of its numbers comes the next one, whatever was said before.

A number is one CJK character (one token, three bytes of UTF-8), COUNT of them in a ring. The prompt's last number
decides where a reply begins, and no number comes twice within COUNT tokens, so the whole text of a reply is known
beforehand and a token that was lost, doubled or mixed in from elsewhere shows at once, and where.

How: no attention, no feed-forward (their weights are zero), so a token's embedding goes straight to the output,
whose row for the next number is that embedding.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

COUNT = 1024
_FIRST = 0x4E00
_SPECIALS = ("<unk>", "<s>", "</s>")
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_EMBD = 128
_TEMPLATE = "{{ messages[-1].content }}"  # nothing after the prompt: its last number is the last token


def number(n: int) -> str:
    return chr(_FIRST + n % COUNT)


def prompt(start: int) -> str:
    """What to say so that the reply begins with number `start`."""
    return number(start - 1)


def reply(start: int, tokens: int) -> str:
    """The whole text of the reply."""
    return "".join(number(start + i) for i in range(tokens))


def write_counting_llama(path: Path, *, n_ctx: int = 2048) -> Path:
    """Write the model to `path` and return it. Same arguments, same bytes."""
    tokens = [*_SPECIALS, *_BYTES, *map(number, range(COUNT))]
    writer = gguf.GGUFWriter(path, "llama")
    _add_hyperparameters(writer, n_ctx, len(tokens))
    _add_tokenizer(writer, tokens)
    _add_weights(writer, len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_hyperparameters(writer: gguf.GGUFWriter, n_ctx: int, n_vocab: int) -> None:
    writer.add_name("counting-llama")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(_EMBD)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_EMBD)
    writer.add_head_count(4)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(_EMBD // 4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(n_vocab)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_tokenizer(writer: gguf.GGUFWriter, tokens: list[str]) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    types += [gguf.TokenType.BYTE] * len(_BYTES)
    writer.add_token_types(types + [gguf.TokenType.NORMAL] * COUNT)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(value=True)
    writer.add_add_space_prefix(value=False)
    writer.add_chat_template(_TEMPLATE)


def _add_weights(writer: gguf.GGUFWriter, n_vocab: int) -> None:
    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((n_vocab, _EMBD)).astype(np.float32)
    first = n_vocab - COUNT
    output = np.zeros_like(embedding)
    output[first:] = np.roll(embedding[first:], 1, axis=0)
    writer.add_tensor("token_embd.weight", embedding)
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(_EMBD, dtype=np.float32))
    for name, rows in (("attn_q", _EMBD), ("attn_k", _EMBD // 4), ("attn_v", _EMBD // 4), ("attn_output", _EMBD)):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((rows, _EMBD), dtype=np.float32))
    for name in ("ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((_EMBD, _EMBD), dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.ones(_EMBD, dtype=np.float32))
    writer.add_tensor("output.weight", output)
