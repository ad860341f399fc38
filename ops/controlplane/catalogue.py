"""The curated models: what can be installed, from where, and the hash the file must have."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Capability = Literal["chat", "embedding", "rerank", "image", "transcription"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Entry):
    """One file of a model. `size` in bytes; `gguf_url` as `worker.store` understands it."""

    size: int = Field(gt=0)
    quantisation: str
    gguf_url: str
    gguf_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class CatalogueModel(_Entry):
    id: str = Field(min_length=1)
    name: str
    backend: str
    capability: Capability
    parameter_size: str
    context_length: int = Field(gt=0)
    licence: str
    variants: tuple[Variant, ...] = Field(min_length=1)


class Catalogue(_Entry):
    data: tuple[CatalogueModel, ...]

    def find(self, model_id: str) -> CatalogueModel | None:
        return next((model for model in self.data if model.id == model_id), None)

    def __contains__(self, model_id: object) -> bool:
        return isinstance(model_id, str) and self.find(model_id) is not None


@cache
def load() -> Catalogue:
    """The catalogue shipped with this package."""
    text = resources.files("ops.controlplane").joinpath("catalogue.json").read_text("utf-8")
    return Catalogue.model_validate_json(text)
