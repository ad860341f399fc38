"""A BERT as a GGUF: the vocabulary, hyperparameters and tensor names that llama.cpp expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

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
    "classifier.dense.weight": "cls.weight",
    "classifier.dense.bias": "cls.bias",
    "classifier.out_proj.weight": "cls.output.weight",
    "classifier.out_proj.bias": "cls.output.bias",
}


@dataclass(frozen=True)
class BertConfig:
    name: str
    ctx: int
    embd: int
    layers: int
    heads: int
    ff: int
    pooling: gguf.PoolingType
    eps: float = 1e-12
    token_types: int = 2


def write_bert(
    path: Path,
    config: BertConfig,
    vocab: Sequence[str],
    weights: Mapping[str, np.ndarray],
    *,
    matrices: Any = np.float32,
) -> None:
    """`weights` by the names that transformers gives them; `vocab` as in a `vocab.txt`; `matrices`: their type."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name(config.name)
    writer.add_context_length(config.ctx)
    writer.add_embedding_length(config.embd)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.ff)
    writer.add_head_count(config.heads)
    writer.add_layer_norm_eps(config.eps)
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(config.pooling)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if matrices is np.float32 else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_token_type_count(config.token_types)
    _add_vocabulary(writer, vocab)
    for name, values in weights.items():
        target = _target(name)
        if target is not None:
            writer.add_tensor(target, _stored(target, values, matrices))
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


def _stored(target: str, values: np.ndarray, matrices: Any) -> np.ndarray:
    """Small tables that are added and not multiplied stay f32."""
    small = values.ndim == 1 or target.startswith(("position_embd", "token_types"))
    return np.ascontiguousarray(values, dtype=np.float32 if small else matrices)


def _add_vocabulary(writer: gguf.GGUFWriter, tokens: Sequence[str]) -> None:
    """A `vocab.txt` marks pieces inside words (`##`), llama.cpp the first piece of each (`▁`)."""
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([_marked(token) for token in tokens])
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if token in SPECIALS else normal for token in tokens])
    writer.add_pad_token_id(tokens.index("[PAD]"))
    writer.add_unk_token_id(tokens.index("[UNK]"))
    writer.add_bos_token_id(tokens.index("[CLS]"))
    writer.add_sep_token_id(tokens.index("[SEP]"))
    writer.add_mask_token_id(tokens.index("[MASK]"))


def _marked(token: str) -> str:
    if token in SPECIALS:
        return token
    return token[2:] if token.startswith("##") else f"▁{token}"
