"""What Speaches says of its models (src/speaches/api_types.py). Pure."""

from __future__ import annotations

from typing import Any

from tasks.contract import JsonObject, ModelInfo
from worker.backends.external.product import NotFoundHere, ProductName, Served

TITLE = "Speaches"  # of its OpenAPI document (src/speaches/main.py)
_CAPABILITIES = {"automatic-speech-recognition": "transcription", "text-to-speech": "speech"}


def rows_of(listing: JsonObject) -> list[JsonObject]:
    """The models of `/v1/models`, each with its task. Raises NotFoundHere when they are not Speaches'."""
    rows = listing.get("data")
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise NotFoundHere("GET /v1/models lists models without a task, as Speaches' have")
    return rows


def served(rows: list[JsonObject]) -> tuple[Served, ...]:
    """Those that we have an endpoint for; the others (speaker embedding, voice activity) are its own parts."""
    return tuple(_served(row, _CAPABILITIES[row["task"]]) for row in rows if row["task"] in _CAPABILITIES)


def version_of(document: JsonObject) -> str | None:
    """The version in Speaches' OpenAPI document; None when it is another product's."""
    info = document.get("info")
    if not isinstance(info, dict) or info.get("title") != TITLE:
        return None
    return str(info.get("version", ""))


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("id"), str) and isinstance(row.get("task"), str)


def _served(row: JsonObject, capability: str) -> Served:
    name = str(row["id"])
    return Served(ModelInfo(id=name, capability=capability, backend=ProductName.SPEACHES.value, loaded=True), name)
