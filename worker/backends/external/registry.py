"""All kinds of external servers that this build knows."""

from __future__ import annotations

import importlib
from functools import cache
from typing import cast

from worker.backends.external.product import Product, ProductName

_HERE = "worker.backends.external"
PLACES: dict[ProductName, tuple[str, str]] = {
    ProductName.OLLAMA: (f"{_HERE}.ollama.product", "Ollama"),
    ProductName.VLLM: (f"{_HERE}.vllm.product", "Vllm"),
    ProductName.LMSTUDIO: (f"{_HERE}.lmstudio.product", "LmStudio"),
    ProductName.SPEACHES: (f"{_HERE}.speaches.product", "Speaches"),
}
"""Module and class of each; a class is made without arguments."""


@cache
def products() -> tuple[Product, ...]:
    """One of each kind. Loads their modules; any thread."""
    return tuple(_made(*place) for place in PLACES.values())


def _made(module: str, name: str) -> Product:
    return cast("Product", getattr(importlib.import_module(module), name)())
