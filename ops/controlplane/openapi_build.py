"""Makes `openapi.json` from the readers of requests: `python -m ops.controlplane.openapi_build`.

The control plane serves the file, so that it needs nothing of a worker when it runs. A test makes it again and
compares, and compares its paths with the routes there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ops.controlplane import openapi
from ops.controlplane.install_requests import CancelBody, InstallBody, UninstallBody
from ops.controlplane.listings import MODEL_TYPES
from ops.controlplane.openapi_paths import ADMIN, OPERATIONS, PUBLIC, USER, Operation
from ops.controlplane.requests import MAX_MODEL_CHARS, PIN_HEADER, PRIORITY_HEADER
from ops.controlplane.scope import NewKey
from worker.chat.request import ChatFields
from worker.completion.request import CompletionFields
from worker.embeddings.request import _Body as EmbeddingsFields
from worker.embeddings.rerank import _Body as RerankFields

_REF = "#/components/schemas/{model}"
_TEXT: Mapping[str, Any] = {"type": "string"}
_OBJECT: Mapping[str, Any] = {"type": "object"}
_MODEL = {"type": "string", "minLength": 1, "maxLength": MAX_MODEL_CHARS, "description": "one that GET /models lists"}
_SHAPES = {
    "response_format": {"type": "object", "description": "text, json_object or json_schema"},
    "json_schema": {"type": "object", "description": "a JSON schema that the reply is held to"},
    "grammar": {"type": "string", "description": "a GBNF grammar that the reply is held to"},
    "keep_alive": {"type": ["string", "number"], "description": "how long the idle model stays: seconds, or 5m"},
}


@dataclass(frozen=True, slots=True)
class _Body:
    """A request body: the fields that a reader reads, those read before it, and which must be there."""

    reader: type[BaseModel] | None
    needed: tuple[str, ...]
    more: Mapping[str, Any]


_BODIES = {
    "ChatRequest": _Body(ChatFields, ("model", "messages"), {"model": _MODEL, **_SHAPES}),
    "CompletionRequest": _Body(CompletionFields, ("model", "prompt"), {"model": _MODEL, **_SHAPES}),
    "EmbeddingsRequest": _Body(EmbeddingsFields, ("model", "input"), {"model": _MODEL}),
    "RerankRequest": _Body(RerankFields, ("model", "query", "documents"), {"model": _MODEL}),
    "ImageRequest": _Body(None, ("model", "prompt"), {"model": _MODEL, "prompt": _TEXT}),
    "SpeechRequest": _Body(
        None, ("model", "input", "voice"), {"model": _MODEL, "input": _TEXT, "voice": _TEXT, "response_format": _TEXT}
    ),
    "TranscriptionForm": _Body(
        None,
        ("model", "file"),
        {"model": _MODEL, "file": {"type": "string", "contentMediaType": "application/octet-stream"}}
        | dict.fromkeys(("language", "prompt", "response_format"), _TEXT),
    ),
    "InstallRequest": _Body(InstallBody, ("model",), {}),
    "UninstallRequest": _Body(UninstallBody, ("model",), {}),
    "CancelRequest": _Body(CancelBody, (), {}),
    "NewKey": _Body(NewKey, ("name",), {}),
    "NewIdentity": _Body(None, ("public_key", "name"), {"public_key": _TEXT, "name": _TEXT}),
}
_ERROR = {
    "type": "object",
    "required": ["detail", "code", "error"],
    "properties": {
        "detail": _TEXT,
        "code": {"type": "string", "description": "stable; docs/errors.md lists them"},
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param"],
            "properties": {
                **dict.fromkeys(("message", "type", "code"), _TEXT),
                "param": {"type": ["string", "null"], "description": "the field that is wrong"},
                "queue_position": {"type": "integer"},
            },
        },
    },
}
_PARAMETERS = {
    "type": {"in": "query", "name": "type", "schema": {"enum": list(MODEL_TYPES)}},
    "priority": {"in": "header", "name": PRIORITY_HEADER, "schema": {"enum": ["interactive", "batch"]}},
    "pin": {"in": "header", "name": PIN_HEADER, "schema": _TEXT, "description": "the one worker that may answer"},
}


def document() -> dict[str, Any]:
    """The whole description. Pure."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    for name, body in _BODIES.items():
        schemas |= _schemas(name, body)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        item = paths.setdefault(operation.path, {} if operation.prefixed else {"servers": [{"url": "/"}]})
        item[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pendra Worker, local control plane",
            "version": "1",
            "description": "OpenAI's API with llama-server's sampling. docs/api.md says what each field does.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/v1"}, {"url": "/api/v1"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _schemas(name: str, body: _Body) -> dict[str, Any]:
    made: dict[str, Any] = body.reader.model_json_schema(ref_template=_REF) if body.reader else {"type": "object"}
    inner: dict[str, Any] = made.pop("$defs", {})
    made["title"] = name
    made.pop("description", None)  # the reader's, written for who reads its code
    made["properties"] = {**body.more, **made.get("properties", {})}
    made["required"] = sorted(body.needed)
    if not body.needed:
        del made["required"]
    for each in inner.values():
        each.pop("description", None)
    return {name: made, **inner}


def _operation(operation: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "security": {PUBLIC: [], USER: [{"bearer": []}, {"header": []}], ADMIN: [{"bearer": []}, {"header": []}]}[
            operation.who
        ],
        "responses": {
            str(operation.status): {"description": operation.answer, "content": _content(operation)},
            "default": {"description": "An error", "content": {"application/json": {"schema": _ref("Error")}}},
        },
    }
    if operation.unready:
        made["responses"]["503"] = {"description": operation.unready, "content": _content(operation)}
    if operation.who == ADMIN:
        made["description"] = "Needs the key of an admin."
    if parameters := [*_path_parameters(operation.path), *(_PARAMETERS[name] for name in operation.parameters)]:
        made["parameters"] = parameters
    if operation.reads:
        made["requestBody"] = {"required": True, "content": {operation.takes: {"schema": _ref(operation.reads)}}}
    return made


def _content(operation: Operation) -> dict[str, Any]:
    return {kind: {"schema": _OBJECT if kind == "application/json" else _TEXT} for kind in operation.gives}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"in": "path", "name": name, "required": True, "schema": _TEXT} for name in names]


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(model=name)}


def text() -> str:
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(openapi.__file__).with_name(openapi.FILE).write_text(text())
