"""An embeddings request: the OpenAI-shaped body, checked, as one frozen value. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from worker.embeddings.fields import Body, of, read

MOST_INPUTS = 2048
"""OpenAI's limit, and ours."""

EUCLIDEAN = 2
_INPUT = "a text, a list of texts, a list of token ids or a list of such lists"

Input = str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """`inputs` are texts or token ids. `single`: one was sent, not a list. `norm`: see `vectors.normalised`."""

    inputs: tuple[Input, ...] = field(repr=False)
    single: bool = False
    base64: bool = False
    dimensions: int | None = None
    norm: int = EUCLIDEAN


class _Body(Body):
    input: Any = Field(description=f"given: {_INPUT}")
    encoding_format: Literal["float", "base64"] | None = of('"float" or "base64"')
    dimensions: int | None = of("a whole number from 1", ge=1, lt=2**31)
    embd_normalize: int | None = of("a whole number: -1 none, 0 largest value 32760, 2 Euclidean", ge=-1, le=32)


def parse_embeddings(body: JsonObject) -> EmbeddingsRequest:
    """Raises BadRequestError naming the field, and of `input` the index."""
    fields = read(_Body, body)
    inputs, single = _inputs(fields.input)
    if len(inputs) > MOST_INPUTS:
        raise _bad(f"input holds {len(inputs)} entries; {MOST_INPUTS} at most are embedded by one request")
    for index, entry in enumerate(inputs):
        if not entry:
            where = "input" if single else f"input[{index}]"
            raise _bad(f"{where} is empty; there is nothing to embed", where)
    return EmbeddingsRequest(
        inputs=inputs,
        single=single,
        base64=fields.encoding_format == "base64",
        dimensions=fields.dimensions,
        norm=EUCLIDEAN if fields.embd_normalize is None else fields.embd_normalize,
    )


def _inputs(value: Any) -> tuple[tuple[Input, ...], bool]:
    """What is to be embedded, and whether it was one thing rather than a list."""
    if isinstance(value, str):
        return (value,), True
    if not isinstance(value, list):
        raise _shape()
    if not value:
        raise _bad("input is an empty list; there is nothing to embed")
    if _is_token(value[0]):
        return (_tokens(value, "input"),), True
    return tuple(_entry(entry, index) for index, entry in enumerate(value)), False


def _entry(entry: Any, index: int) -> Input:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, list):
        return _tokens(entry, f"input[{index}]")
    raise _bad(f"input[{index}] must be a text or a list of token ids", f"input[{index}]")


def _tokens(value: list[Any], where: str) -> tuple[int, ...]:
    if not all(_is_token(token) for token in value):
        raise _bad(f"{where} must hold token ids (whole numbers from 0) only", where)
    return tuple(value)


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _shape() -> BadRequestError:
    return _bad(f"input must be {_INPUT}")


def _bad(words: str, param: str = "input") -> BadRequestError:
    return BadRequestError(words, param=param)
