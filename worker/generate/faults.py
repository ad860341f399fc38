"""The first fault of a request in words: which field, and what may stand in it. Quotes nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tasks.contract import JsonObject
from tasks.errors import BadRequestError

UNSUPPORTED_CONTENT = "unsupported_content"
_OUR_WORDS = frozenset({UNSUPPORTED_CONTENT, "part", "content", "rule"})
M = TypeVar("M", bound=BaseModel)


def read(model: type[M], body: JsonObject, inside: Mapping[str, type[BaseModel]] | None = None) -> M:
    """`body` as `model`. `inside`: the models of the items of its lists, whose fields are named in errors, too.

    Raises BadRequestError: `bad_request` or `unsupported_content`.
    """
    try:
        return model.model_validate(body)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
    raise _explained(error, model, inside or {})


def _explained(error: ErrorDetails, model: type[BaseModel], inside: Mapping[str, type[BaseModel]]) -> BadRequestError:
    where = _path(error["loc"], inside) or str(error.get("ctx", {}).get("param", ""))
    words = error["msg"] if error["type"] in _OUR_WORDS else f"must be {_allowed(where, model, inside)}"
    code = UNSUPPORTED_CONTENT if error["type"] == UNSUPPORTED_CONTENT else None
    return BadRequestError(f"{where} {words}", code=code, param=where)


def _allowed(where: str, model: type[BaseModel], inside: Mapping[str, type[BaseModel]]) -> str:
    """What may stand in a field, in the words of its description."""
    item = inside.get(where.partition("[")[0]) if "[" in where else None
    found = (item or model).model_fields.get(where.rpartition(".")[2])
    return str(found.description) if found else "a {role, content} message"


def _path(loc: tuple[int | str, ...], inside: Mapping[str, type[BaseModel]]) -> str:
    """Like `messages[0].content`. Stops where the names are the client's own (keys of its objects)."""
    item = inside.get(str(loc[0])) if loc else None
    if item is None:
        return str(loc[0]) if loc else ""
    index = f"[{loc[1]}]" if len(loc) > 1 else ""
    name = f".{loc[2]}" if len(loc) > 2 and loc[2] in item.model_fields else ""  # noqa: PLR2004  # list, index, name
    return f"{loc[0]}{index}{name}"
