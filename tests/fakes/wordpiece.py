"""A BERT vocabulary in a GGUF."""

from __future__ import annotations

from collections.abc import Sequence

import gguf

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def add_wordpiece(writer: gguf.GGUFWriter, tokens: Sequence[str]) -> None:
    """`tokens` as in a `vocab.txt`: id by line, pieces inside words begin with `##`.

    llama.cpp marks the begin of words instead (`▁`), so the marks change sides here.
    """
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
