"""A model's vocabulary: text to token ids and back. Safe from any thread."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llama_cpp import llama_cpp as lib


@dataclass(frozen=True, slots=True)
class Fill:
    """The tokens with which a model is asked to fill in the middle."""

    prefix: int
    suffix: int
    middle: int


class Vocab:
    """Reads the vocabulary of a loaded model; valid as long as the model is."""

    def __init__(self, model: Any) -> None:
        self._vocab = lib.llama_model_get_vocab(model)
        self.size: int = lib.llama_vocab_n_tokens(self._vocab)
        self._pieces: list[bytes | None] = [None] * self.size
        self._special_pieces: dict[int, bytes] = {}
        self.eog = frozenset(t for t in range(self.size) if lib.llama_vocab_is_eog(self._vocab, t))
        self.suppressed = self._suppressed()
        self.bos: int = lib.llama_vocab_bos(self._vocab)
        self.eos: int = lib.llama_vocab_eos(self._vocab)
        self.adds_bos: bool = lib.llama_vocab_get_add_bos(self._vocab)
        self.fill = self._fill()
        """None: the model does not know how to fill in the middle."""

    @property
    def handle(self) -> Any:
        """The llama_vocab pointer, for samplers that need one."""
        return self._vocab

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids of `text`. `add_special` puts BOS/EOS where the model wants them; `parse_special` reads special
        tokens' names as those tokens (for rendered templates, not for what users wrote)."""
        data = text.encode("utf-8", "replace")
        room = len(data) // 2 + 16
        while True:
            ids = (lib.llama_token * room)()
            count = lib.llama_tokenize(self._vocab, data, len(data), ids, room, add_special, parse_special)
            if count >= 0:
                return ids[:count]
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; control tokens (BOS, end of turn) have none. Cached."""
        cached = self._pieces[token]
        if cached is None:
            cached = self._pieces[token] = self._read_piece(token, special=False)
        return cached

    def special_piece(self, token: int) -> bytes:
        """As `piece`, but control tokens give their names (`<tool_call>`). Cached."""
        cached = self._special_pieces.get(token)
        if cached is None:
            cached = self._special_pieces[token] = self._read_piece(token, special=True)
        return cached

    def renderer(self, special: bool | frozenset[int]) -> Callable[[int], bytes]:  # noqa: FBT001  # as in the request
        """`piece`, or one that also shows control tokens: all of them, or those with these ids."""
        if not special:
            return self.piece
        if special is True:
            return self.special_piece
        return lambda token: self.special_piece(token) if token in special else self.piece(token)

    def text_of(self, token: int) -> str:
        """A token's name as templates use it (`<s>`, `<|im_end|>`); empty for no token (-1)."""
        return self._read_piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count: int = lib.llama_token_to_piece(self._vocab, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def _fill(self) -> Fill | None:
        vocab = self._vocab
        ids = (lib.llama_vocab_fim_pre(vocab), lib.llama_vocab_fim_suf(vocab), lib.llama_vocab_fim_mid(vocab))
        return Fill(*ids) if min(ids) >= 0 else None

    def _suppressed(self) -> tuple[int, ...]:
        """Tokens the model's author says must never be generated."""
        count = ctypes.c_int32(0)
        ids = lib.llama_vocab_get_suppress_tokens(self._vocab, ctypes.byref(count))
        return tuple(ids[i] for i in range(count.value))
