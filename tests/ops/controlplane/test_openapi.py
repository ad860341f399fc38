"""`/openapi.json` says what there is: every route, who may use it, the fields that are read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from ops.controlplane import openapi, openapi_build
from ops.controlplane.app import _PREFIXES, _routes
from ops.controlplane.openapi_paths import ADMIN, OPERATIONS, PUBLIC, USER, Operation
from ops.controlplane.requests import _NEEDED
from ops.controlplane.scope import Scope
from tasks.contract import JobKind
from tests.ops.controlplane.running import Running

FILE = Path(openapi.__file__).with_name(openapi.FILE)
DOCUMENT: dict[str, Any] = json.loads(FILE.read_text())
PAGES = ("/console", "/static")


def test_the_file_is_what_the_code_says() -> None:
    """But for how pydantic words a type, which is another thing in each of its versions."""
    assert outline(DOCUMENT) == outline(openapi_build.document()), "run: python -m ops.controlplane.openapi_build"


def outline(document: dict[str, Any]) -> dict[str, Any]:
    schemas = {
        name: (sorted(one.get("properties", ())), sorted(one.get("required", ())))
        for name, one in document["components"]["schemas"].items()
    }
    return {**document, "components": {**document["components"], "schemas": schemas}}


def test_it_is_a_description_by_the_standard() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


async def test_it_names_every_route_and_no_other(plane: Running) -> None:
    there = {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in _routes(plane.plane)
        if isinstance(route, Route) and route.path != "/" and not route.path.startswith(PAGES)
        for method in (route.methods or {"GET"}) - {"HEAD"}
    }
    told = {
        (each.method, prefix + each.path) for each in OPERATIONS for prefix in (_PREFIXES if each.prefixed else ("",))
    }
    assert there == told


async def test_it_is_public(plane: Running) -> None:
    async with httpx.AsyncClient(base_url=plane.url, trust_env=False) as stranger:
        reply = await stranger.get(openapi.PATH)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == DOCUMENT


async def test_who_may_use_a_path_is_true(plane: Running) -> None:
    user = plane.plane.keys.create("user", admin=False, scope=Scope())
    for operation in OPERATIONS:
        if operation.path in ("/metrics", "/healthz"):  # both answer this machine without a key
            continue
        nobody, somebody = await ask(plane, operation, None), await ask(plane, operation, user)
        assert (nobody.status_code == 401) == (operation.who != PUBLIC), operation
        denied = somebody.status_code == 403 and somebody.json()["code"] == "admin_key_needed"
        assert denied == (operation.who == ADMIN), operation


async def ask(plane: Running, operation: Operation, key: str | None) -> httpx.Response:
    """With an empty body, so that nothing is done."""
    path = ("/v1" if operation.prefixed else "") + re.sub(r"{\w+}", "x", operation.path)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=plane.url, trust_env=False) as client:
        return await client.request(operation.method, path, headers=headers)


def test_what_a_job_needs_is_required() -> None:
    bodies = {
        JobKind.CHAT: "ChatRequest",
        JobKind.COMPLETION: "CompletionRequest",
        JobKind.EMBEDDINGS: "EmbeddingsRequest",
        JobKind.RERANK: "RerankRequest",
        JobKind.IMAGE: "ImageRequest",
        JobKind.SPEECH: "SpeechRequest",
    }
    schemas = DOCUMENT["components"]["schemas"]
    told = {kind: set(schemas[name]["required"]) for kind, name in bodies.items()}
    assert told == {kind: {"model", *needed} for kind, needed in _NEEDED.items()}
    assert all(
        set(one.get("required", ())) <= set(one["properties"]) for one in schemas.values() if "properties" in one
    )


def test_nothing_in_it_says_how_the_code_is_made() -> None:
    """Docstrings of readers are for who reads them."""
    assert not {word for word in ("Raises", "Pure", "docstring") if word in FILE.read_text()}
    assert {each.who for each in OPERATIONS} == {PUBLIC, USER, ADMIN}
