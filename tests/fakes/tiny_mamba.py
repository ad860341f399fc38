"""Tiny random recurrent models as GGUF files: `mamba` (recurrent only) and `jamba` (every other layer is attention).

Same vocabulary as the tiny llama. Their memory cannot drop its last tokens.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests.fakes.tiny_llama import FIRST_BYTE, WORDS, _add_tokenizer, _pieces

EMBD, LAYERS, INNER, STATE, CONV, RANK = 64, 2, 128, 16, 4, 4
HEADS, KV_HEADS, FF = 4, 2, 128


def write_tiny_mamba(path: Path, *, hybrid: bool = False, seed: int = 0) -> Path:
    """Write the model to `path` and return it. Same arguments, same bytes."""
    pieces = _pieces(WORDS)
    writer = gguf.GGUFWriter(path, "jamba" if hybrid else "mamba")
    _add_hyperparameters(writer, n_vocab=len(pieces), hybrid=hybrid)
    _add_tokenizer(writer, pieces, None, controls=0)
    _Weights(writer, np.random.default_rng(seed), hybrid=hybrid).add(len(pieces))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_hyperparameters(writer: gguf.GGUFWriter, *, n_vocab: int, hybrid: bool) -> None:
    writer.add_name("tiny-random-hybrid" if hybrid else "tiny-random-mamba")
    writer.add_context_length(2048)
    writer.add_embedding_length(EMBD)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FF if hybrid else 0)
    writer.add_head_count(HEADS if hybrid else 0)
    if hybrid:
        writer.add_head_count_kv([0 if layer % 2 == 0 else KV_HEADS for layer in range(LAYERS)])
    writer.add_ssm_conv_kernel(CONV)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(n_vocab)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


class _Weights:
    def __init__(self, writer: gguf.GGUFWriter, rng: np.random.Generator, *, hybrid: bool) -> None:
        self._writer = writer
        self._rng = rng
        self._hybrid = hybrid

    def add(self, n_vocab: int) -> None:
        self._matrix("token_embd.weight", n_vocab, EMBD, 8.0)
        for layer in range(LAYERS):
            self._layer(f"blk.{layer}.", attends=self._hybrid and layer % 2 == 1)
        self._ones("output_norm.weight", EMBD)
        output = self._random(n_vocab, EMBD, 4.0)
        output[: FIRST_BYTE + 256] *= 0.1  # a temperature-0 reply is printable and does not end by itself
        self._writer.add_tensor("output.weight", output)

    def _layer(self, at: str, *, attends: bool) -> None:
        self._ones(at + "attn_norm.weight", EMBD)
        if attends:
            kv = EMBD // HEADS * KV_HEADS
            for name, rows in (("attn_q", EMBD), ("attn_k", kv), ("attn_v", kv), ("attn_output", EMBD)):
                self._matrix(f"{at}{name}.weight", rows, EMBD, 2.0)
        else:
            self._recurrence(at)
        if self._hybrid:
            self._ones(at + "ffn_norm.weight", EMBD)
            for name in ("ffn_gate", "ffn_up"):
                self._matrix(f"{at}{name}.weight", FF, EMBD, 1.0)
            self._matrix(at + "ffn_down.weight", EMBD, FF, 2.0)

    def _recurrence(self, at: str) -> None:
        self._matrix(at + "ssm_in.weight", 2 * INNER, EMBD, 2.0)
        self._matrix(at + "ssm_conv1d.weight", INNER, CONV, 2.0)
        self._writer.add_tensor(at + "ssm_conv1d.bias", np.zeros(INNER, np.float32))
        self._matrix(at + "ssm_x.weight", RANK + 2 * STATE, INNER, 2.0)
        if self._hybrid:
            for name, width in (("dt", RANK), ("b", STATE), ("c", STATE)):
                self._ones(f"{at}ssm_{name}_norm.weight", width)
        self._matrix(at + "ssm_dt.weight", INNER, RANK, 2.0)
        self._writer.add_tensor(at + "ssm_dt.bias", np.zeros(INNER, np.float32))
        self._writer.add_tensor(at + "ssm_a", -0.1 * np.abs(self._random(INNER, STATE, 4.0)))
        self._ones(at + "ssm_d", INNER)
        self._matrix(at + "ssm_out.weight", EMBD, INNER, 2.0)

    def _random(self, rows: int, cols: int, gain: float) -> np.ndarray:
        return (self._rng.standard_normal((rows, cols)) * gain / np.sqrt(cols)).astype(np.float32)

    def _matrix(self, name: str, rows: int, cols: int, gain: float) -> None:
        self._writer.add_tensor(name, self._random(rows, cols, gain))

    def _ones(self, name: str, width: int) -> None:
        self._writer.add_tensor(name, np.ones(width, dtype=np.float32))
