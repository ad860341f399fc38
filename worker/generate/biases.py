"""`logit_bias` in its forms: OpenAI's map of token ids, and llama-server's list and texts. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pydantic_core import PydanticCustomError

Bias = tuple[int | str, float]
"""A token, or a text all of whose tokens are meant; -inf forbids it."""

WORDS = (
    "an object of token ids (or texts) and numbers from -100 to 100, or a list of [id or text, number] pairs; "
    "false forbids a token"
)
MOST = 1024
_MOST_BIAS = 100
_MOST_CHARS = 256
_MOST_DIGITS = 10


def read_biases(value: Any) -> tuple[Bias, ...] | None:
    """Raises PydanticCustomError for anything that is none of the forms."""
    if value is None:
        return None
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or len(pairs) > MOST:
        raise _wrong()
    return tuple(_pair(pair) for pair in pairs)


def resolved(biases: tuple[Bias, ...], tokens_of: Callable[[str], list[int]]) -> tuple[tuple[int, float], ...]:
    """With the tokens of texts. A later entry of a token wins."""
    found: dict[int, float] = {}
    for what, bias in biases:
        for token in [what] if isinstance(what, int) else tokens_of(what):
            found[token] = bias
    return tuple(found.items())


def _pair(pair: Any) -> Bias:
    if not isinstance(pair, list | tuple) or len(pair) != 2:  # noqa: PLR2004  # a pair
        raise _wrong()
    return _token(pair[0]), _bias(pair[1])


def _token(what: Any) -> int | str:
    """JSON's keys are text; token ids are numbers."""
    if isinstance(what, int) and not isinstance(what, bool) and 0 <= what < 2**31:
        return what
    if not isinstance(what, str) or not 0 < len(what) <= _MOST_CHARS:
        raise _wrong()
    if not (what.isascii() and what.isdecimal()):
        return what
    if len(what) > _MOST_DIGITS:
        raise _wrong()
    return int(what)


def _bias(value: Any) -> float:
    if value is False:
        return -math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_MOST_BIAS <= value <= _MOST_BIAS:
        raise _wrong()
    return float(value)


def _wrong() -> PydanticCustomError:
    return PydanticCustomError("bias", "is no logit bias")
