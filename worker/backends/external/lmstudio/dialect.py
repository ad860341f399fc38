"""A chat request as LM Studio understands it. Pure.

It refuses `response_format: json_object` (bug tracker 189), knows `max_tokens` only, and switches thinking by
`reasoning_effort`; the rest of OpenAI's fields, top_k and repeat_penalty are read as they are.
"""

from __future__ import annotations

from typing import Any

from tasks.contract import JsonObject
from worker.backends.external.pictures import refuse_addresses

_ANY_OBJECT: JsonObject = {
    "type": "json_schema",
    "json_schema": {"name": "object", "schema": {"type": "object"}},
}


def chat(body: JsonObject) -> JsonObject:
    """The same body, changed in place where LM Studio differs. Raises BadRequestError."""
    refuse_addresses(body)
    limit = body.pop("max_completion_tokens", None)
    if limit is not None:
        body["max_tokens"] = limit
    if _kind(body.get("response_format")) == "json_object":
        schema = body["response_format"].get("schema")
        body["response_format"] = _as_schema(schema) if isinstance(schema, dict) else _ANY_OBJECT
    enabled = body.pop("enable_thinking", None)
    if enabled is False:
        body["reasoning_effort"] = "none"
    return body


def _kind(response_format: Any) -> Any:
    return response_format.get("type") if isinstance(response_format, dict) else None


def _as_schema(schema: JsonObject) -> JsonObject:
    return {"type": "json_schema", "json_schema": {"name": "object", "schema": schema}}
