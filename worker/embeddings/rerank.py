"""A rerank request: the Cohere-shaped body, checked, as one frozen value. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from worker.embeddings.fields import Body, of, read

MOST_DOCUMENTS = 1000
"""Cohere's recommendation, as a limit."""


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """`top_n` None = all. `raw_scores`: the model's own numbers instead of 0 to 1."""

    query: str = field(repr=False)
    documents: tuple[str, ...] = field(repr=False)
    top_n: int | None = None
    return_documents: bool = False
    raw_scores: bool = False


class _Body(Body):
    query: str = Field(min_length=1, description="a text that is not empty")
    documents: list[Any] = Field(
        min_length=1,
        max_length=MOST_DOCUMENTS,
        description=f"a list of 1 to {MOST_DOCUMENTS} texts or {{text}} objects",
    )
    top_n: int | None = of("a whole number from 1", ge=1, lt=2**31)
    return_documents: bool | None = of("true or false")
    raw_scores: bool | None = of("true or false")


def parse_rerank(body: JsonObject) -> RerankRequest:
    """Raises BadRequestError naming the field, and of `documents` the index."""
    fields = read(_Body, body)
    return RerankRequest(
        query=fields.query,
        documents=tuple(_text(document, index) for index, document in enumerate(fields.documents)),
        top_n=fields.top_n,
        return_documents=bool(fields.return_documents),
        raw_scores=bool(fields.raw_scores),
    )


def _text(document: Any, index: int) -> str:
    text = document.get("text") if isinstance(document, dict) else document
    where = f"documents[{index}]"
    if not isinstance(text, str):
        raise BadRequestError(f"{where} must be a text, or an object with one as `text`", param=where)
    if not text:
        raise BadRequestError(f"{where} is empty; there is nothing to rank", param=where)
    return text
