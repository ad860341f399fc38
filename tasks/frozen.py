"""The base of everything that travels between bridge and workers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable; unknown fields are ignored, so that a newer sender is understood."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # a validation error must not quote a prompt
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )
