"""What shape a request asks for: `response_format`, and llama-server's `json_schema` and `grammar`. Pure."""

from __future__ import annotations

from typing import Any

from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from worker.chat.structured.compiled import Compiled
from worker.chat.structured.gbnf import TokenId, compile_gbnf
from worker.chat.structured.schema import compile_schema, json_object

_TYPES = '"text", "json_object" or "json_schema"'


def structured_output(body: JsonObject, *, token_id: TokenId | None = None) -> tuple[Compiled, bool] | None:
    """The grammar a request's body asks for, and whether it asked for `strict`; None = free text.

    `token_id`: see `compile_gbnf`. Raises BadRequestError: `bad_request`, `bad_schema` or `bad_grammar`, with the
    field it is about.
    """
    asked = [name for name in ("response_format", "json_schema", "grammar") if _given(body, name)]
    if len(asked) > 1:
        raise BadRequestError(f"{asked[0]} and {asked[1]} cannot be combined: give one", param=asked[1])
    if not asked:
        return None
    value = body[asked[0]]
    if asked[0] == "json_schema":
        return compile_schema(value, param="json_schema"), False
    if asked[0] == "response_format":
        return _response_format(value)
    if not isinstance(value, str):
        raise BadRequestError("grammar is GBNF text", param="grammar")
    return compile_gbnf(value, token_id=token_id), False


def _given(body: JsonObject, name: str) -> bool:
    value = body.get(name)
    return value not in (None, "") and not (isinstance(value, dict) and value.get("type") == "text")


def _response_format(value: Any) -> tuple[Compiled, bool]:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "json_object":
        schema = value.get("schema")  # llama-server's own extension
        return (json_object() if schema is None else compile_schema(schema)), False
    if kind != "json_schema":
        raise BadRequestError(f"response_format.type is {_TYPES}", param="response_format.type")
    described = value.get("json_schema", value)  # llama-server takes the schema without the wrapper, too
    if not isinstance(described, dict) or "schema" not in described:
        message = 'response_format.json_schema is {"name": …, "strict": …, "schema": {…}}'
        raise BadRequestError(message, param="response_format.json_schema")
    return compile_schema(described["schema"]), described.get("strict") is True
