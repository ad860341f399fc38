"""The models of an LM Studio server: `GET /api/v0/models`, and of 0.4 and newer `GET /api/v1/models`.

The older route says what is loaded and with which context, the newer one size, parameters and what a model can do.
Unknown paths are answered with status 200 and `{"error": …}`, so only the shape of an answer counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from tasks.contract import JsonObject, ModelInfo
from worker.backends.external.probing import look
from worker.backends.external.product import Found, NotFoundHere, ProductName, Served

NATIVE, NEWER, OPENAI = "/api/v0/models", "/api/v1/models", "/v1/models"
_CAPABILITIES = {"llm": "chat", "vlm": "chat", "embeddings": "embedding"}


async def listed(http: httpx.AsyncClient, found: Found) -> tuple[Served, ...]:
    """Raises NotFoundHere when the server does not list its models."""
    rows = rows_of(await look(http, found.url, NATIVE), NATIVE)
    try:
        newer = newer_of(await look(http, found.url, NEWER))
    except NotFoundHere:
        newer = {}
    made = [served(row, newer.get(str(row["id"]), {})) for row in rows]
    return tuple(one for one in made if one is not None)


def rows_of(said: JsonObject, path: str) -> list[JsonObject]:
    """The entries of a list of models. Raises NotFoundHere when it is none, or not LM Studio's."""
    rows = said.get("data")
    native = path == NATIVE
    if not isinstance(rows, list) or not all(_is_row(row, native=native) for row in rows):
        raise NotFoundHere(f"GET {path} answered JSON that is not LM Studio's")
    return rows


def newer_of(said: JsonObject) -> dict[str, JsonObject]:
    """The entries of `/api/v1/models` by their key. Pure."""
    rows = said.get("models")
    return {str(row.get("key")): row for row in rows if isinstance(row, dict)} if isinstance(rows, list) else {}


def served(row: JsonObject, newer: JsonObject) -> Served | None:
    """One model; None when it is of a type that we do not offer. Pure."""
    capability = _CAPABILITIES.get(str(row.get("type")))
    if capability is None:
        return None
    name, loaded = str(row["id"]), row.get("state") == "loaded"
    info = ModelInfo(
        id=name,
        capability=capability,
        backend=ProductName.LMSTUDIO,
        context_length=_context_length(row, loaded=loaded),
        parameter_size=_text(newer.get("params_string")),
        quantisation=_text(row.get("quantization")),
        family=_text(row.get("arch")),
        size_bytes=_count(newer.get("size_bytes")),
        loaded=loaded,
        features=_features(row, newer),
    )
    return Served(info, name, {"format": _text(row.get("compatibility_type")) or ""})


def _is_row(row: Any, *, native: bool) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        return False
    return not native or isinstance(row.get("type"), str)


def _context_length(row: JsonObject, *, loaded: bool) -> int | None:
    """Of a loaded model what it was loaded with, which is often less than it could have."""
    used = _count(row.get("loaded_context_length")) if loaded else None
    return used or _count(row.get("max_context_length"))


def _features(row: JsonObject, newer: JsonObject) -> tuple[str, ...] | None:
    said = newer.get("capabilities")
    words: Sequence[Any] = row["capabilities"] if isinstance(row.get("capabilities"), list) else ()
    can = said if isinstance(said, dict) else {}
    features = {
        "vision": row.get("type") == "vlm" or can.get("vision") is True,
        "tools": "tool_use" in words or can.get("trained_for_tool_use") is True,
        "thinking": isinstance(can.get("reasoning"), dict),
    }
    return tuple(name for name, has in features.items() if has)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
