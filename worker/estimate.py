"""How much memory llama.cpp takes beside a model's weights and its KV cache, from the file's header. Pure.

Measured with SmolLM2-135M, 4 slots of 2048 tokens: compute buffer 15.5 MiB with flash attention and 46 MiB without,
here 15.4 and 51; vocabulary and graphs some 16 MiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.engine.config import LANES_CPU, MOST_DRAFTED, SHORT, EngineConfig

if TYPE_CHECKING:
    from worker.options import Options
    from worker.store.gguf import GgufInfo

_DEFAULTS = EngineConfig()
_FLOAT = 4
_MASK = 6  # float32 and float16 of each pair of tokens
_TOKEN_TEXT = 320  # of each token of the vocabulary: its text, its place in the maps
_FIXED = 8 * 1024**2  # graphs, allocator, threads


def beside_weights(info: GgufInfo, options: Options, *, ctx: int, slots: int) -> int:
    """Bytes for compute buffers, outputs, vocabulary and recurrent states of `slots` sequences of `ctx` tokens."""
    ubatch = min(_DEFAULTS.n_ubatch, max(options.n_batch or _DEFAULTS.n_batch, slots + 1))
    embd, feed = info.embedding_length or 0, info.feed_forward_length or 0
    activations = ubatch * _FLOAT * (2 * feed + 3 * embd)
    pairs = ubatch * ctx * _MASK
    if options.flash_attn is False:
        pairs += ubatch * ctx * _FLOAT * max(info.head_count, default=0)
    outputs = 2 * (slots + MOST_DRAFTED) * info.vocab_size * _FLOAT
    return activations + pairs + outputs + info.vocab_size * _TOKEN_TEXT + info.state_bytes_per_slot * slots + _FIXED


def beside_pooled(info: GgufInfo, *, ctx: int) -> int:
    """Bytes for the logits of an embedding model's usual batches on a CPU: nobody reads them, llama.cpp has room for
    every token's all the same. (71 MiB a lane for all-MiniLM-L6-v2, 60 of them this.)

    An encoder's input of more than `SHORT` tokens takes more once it comes.
    """
    return LANES_CPU * min(ctx, SHORT) * info.vocab_size * _FLOAT
