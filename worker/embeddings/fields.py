"""What the bodies of both endpoints have in common: strict fields, and a first fault in words."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tasks.contract import JsonObject
from tasks.errors import BadRequestError

B = TypeVar("B", bound="Body")
_OURS = "rule"  # the type of errors whose words are ours


class Body(BaseModel):
    """The fields we read; others are ignored. A field's description says what may stand in it."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)


def of(allowed: str, **limits: Any) -> Any:
    """A field that may be left out, or null."""
    return Field(default=None, description=allowed, **limits)


def read(kind: type[B], body: JsonObject) -> B:
    """Pure. Raises BadRequestError naming the field and what may stand in it, never what was sent."""
    try:
        return kind.model_validate(body)
    except ValidationError as exc:
        raise _explained(kind, exc.errors(include_url=False, include_input=False)[0]) from None


def _explained(kind: type[Body], error: ErrorDetails) -> BadRequestError:
    name = str(error["loc"][0]) if error["loc"] else ""
    where = f"{name}[{error['loc'][1]}]" if len(error["loc"]) > 1 and isinstance(error["loc"][1], int) else name
    if error["type"] == _OURS:
        return BadRequestError(error["msg"], param=where or str(error.get("ctx", {}).get("param", "")))
    field = kind.model_fields.get(name)
    return BadRequestError(f"{where} must be {field.description if field else 'as documented'}", param=where)
