"""Log probabilities in OpenAI's two shapes, the chat's and the legacy completions'. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from typing import Any

from tasks.contract import JsonObject
from worker.engine.api import TokenLogprob

Pieces = Callable[[int], bytes]
"""A token's bytes, control tokens by their name."""

_LEAST = -9999.0
"""JSON has no infinity; OpenAI writes this, too."""


def chat_logprobs(scores: Iterable[TokenLogprob], pieces: Pieces) -> JsonObject:
    """`choices[].logprobs` of a chat completion, whole or of one chunk."""
    content = [
        {
            **_token(scored.token, scored.logprob, pieces),
            "top_logprobs": [_token(token, logprob, pieces) for token, logprob in scored.top],
        }
        for scored in scores
    ]
    return {"content": content, "refusal": None}


def _token(token: int, logprob: float, pieces: Pieces) -> dict[str, Any]:
    piece = pieces(token)
    return {"token": _text(piece), "logprob": _number(logprob), "bytes": list(piece)}


class LegacyLogprobs:
    """One completion's `logprobs`, chunk by chunk; `text_offset` goes on. `offset`: characters before the first."""

    def __init__(self, pieces: Pieces, offset: int = 0) -> None:
        self._pieces = pieces
        self._offset = offset
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def skip(self, tokens: Iterable[int]) -> None:
        """These were delivered by an earlier attempt."""
        for token in tokens:
            self._pass(self._pieces(token))

    def take(self, scores: Iterable[TokenLogprob]) -> JsonObject:
        """Of the next tokens."""
        made = _nothing()
        for scored in scores:
            self._add(made, self._pieces(scored.token), scored)
        return made

    def prompt(self, tokens: Iterable[int], scores: Iterable[TokenLogprob | None], *, drop: int = 0) -> JsonObject:
        """Of a prompt's tokens, None for one that has no score. `drop`: bytes at its beginning that are not shown."""
        made = _nothing()
        for token, scored in zip(tokens, scores, strict=True):
            self._add(made, self._pieces(token)[drop:], scored)
            drop = 0
        return made

    def _add(self, made: JsonObject, piece: bytes, scored: TokenLogprob | None) -> None:
        made["tokens"].append(_text(piece))
        made["token_logprobs"].append(None if scored is None else _number(scored.logprob))
        made["top_logprobs"].append(None if scored is None else self._top(scored))
        made["text_offset"].append(self._offset)
        self._pass(piece)

    def _pass(self, piece: bytes) -> None:
        self._offset += len(self._decode(piece))

    def _top(self, scored: TokenLogprob) -> JsonObject | None:
        """With the token itself, which need not be among the most likely."""
        if not scored.top:
            return None
        named = {_text(self._pieces(token)): _number(logprob) for token, logprob in reversed(scored.top)}
        best_first = dict(reversed(named.items()))
        best_first.setdefault(_text(self._pieces(scored.token)), _number(scored.logprob))
        return best_first


def _nothing() -> JsonObject:
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


def joined(first: JsonObject, second: JsonObject) -> JsonObject:
    """Two parts in the legacy shape, one after the other."""
    return {name: [*values, *second[name]] for name, values in first.items()}


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _number(logprob: float) -> float:
    return max(logprob, _LEAST)
