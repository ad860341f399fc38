"""llama-server's `samplers`: which ones, in which order. Pure."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticCustomError

SAMPLERS = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")
_ALSO = {
    "top-k": "top_k", "top-p": "top_p", "min-p": "min_p", "typical": "typ_p", "typical-p": "typ_p",
    "typical_p": "typ_p", "typ": "typ_p", "typ-p": "typ_p", "nucleus": "top_p", "temp": "temperature",
    "top-n-sigma": "top_n_sigma",
}  # fmt: skip
_LETTERS = {
    "e": "penalties", "d": "dry", "s": "top_n_sigma", "k": "top_k", "y": "typ_p", "p": "top_p", "m": "min_p",
    "x": "xtc", "t": "temperature",
}  # fmt: skip
WORDS = f"a list of different samplers out of {', '.join(SAMPLERS)}, or their letters {''.join(_LETTERS)} as one text"


def read_samplers(value: Any) -> tuple[str, ...] | None:
    """Raises PydanticCustomError for a name we do not have."""
    if value is None:
        return None
    names = [_LETTERS.get(letter, "") for letter in value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _wrong()
    order = tuple(str(_ALSO.get(name, name)) for name in names)
    if not order or len(set(order)) < len(order) or not set(order) <= set(SAMPLERS):
        raise _wrong()
    return order


def _wrong() -> PydanticCustomError:
    return PydanticCustomError("samplers", "is no list of samplers")
