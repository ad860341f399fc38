"""What vLLM says of its models, and what their ids give away. Pure (vllm/entrypoints/openai/engine/protocol.py)."""

from __future__ import annotations

import re
from typing import Any

from tasks.contract import JsonObject, ModelInfo
from worker.backends.external.product import NotFoundHere, ProductName, Served

_SIZE = re.compile(r"(?:^|[-_:/. ])((?:\d+x)?\d+(?:\.\d+)?[bm])(?=$|[-_:/. ])", re.IGNORECASE)
_QUANTISATION = re.compile(
    r"(?:^|[-_:/. ])(awq|gptq|fp8|nvfp4|mxfp4|int4|int8|w4a16|w8a8|bnb)(?=$|[-_:/. ])", re.IGNORECASE
)
_OTHERS = {
    "llamacpp": "llama.cpp's llama-server",
    "sglang": "SGLang",
    "library": "Ollama",
    "organization_owner": "LM Studio",
    "speaches": "Speaches",
}


def cards(listing: JsonObject) -> list[JsonObject]:
    """The models of a `/v1/models` answer. Raises NotFoundHere when it is not vLLM's."""
    rows = listing.get("data")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows
    ):
        raise NotFoundHere("GET /v1/models answered JSON that is not a list of models")
    for row in rows:
        if other := _OTHERS.get(str(row.get("owned_by"))):
            raise NotFoundHere(f"this is {other}, not vLLM")
        if "task" in row:  # only Speaches says it
            raise NotFoundHere("this is Speaches, not vLLM")
    return rows


def served(card: JsonObject, capability: str) -> Served:
    name = str(card["id"])
    info = ModelInfo(
        id=name,
        capability=capability,
        backend=ProductName.VLLM.value,
        context_length=_positive(card.get("max_model_len")),
        parameter_size=parameter_size(name) or parameter_size(str(card.get("root") or "")),
        quantisation=_quantisation(name),
        loaded=True,
    )
    return Served(info, name)


def parameter_size(model_id: str) -> str | None:
    """`7B` of `Qwen/Qwen2.5-7B-Instruct`, `8x7B` of `Mixtral-8x7B-v0.1`; None where the id does not say it."""
    found = _SIZE.search(model_id)
    return found.group(1).upper().replace("X", "x") if found else None


def _quantisation(model_id: str) -> str | None:
    found = _QUANTISATION.search(model_id)
    return found.group(1).upper() if found else None


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
