"""Private inference v2 as everybody sees it who passes an envelope on: its shape, and nothing of what is inside.

    {"model", "stream", "pendra_encrypted": {"v": 2, "recipients": [{"kid", "enc", "sealed_dek"}], "nonce",
     "ciphertext"[, "affinity_key"][, "binary_nonce", "binary_ciphertext"]}}

Control plane and bridge check and route by this module; only `worker.private` opens (docs/security.md). A `kid` is
the hex SHA-256 of a raw X25519 public key; all binary is base64.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tasks.errors import BadRequestError

ENVELOPE = "pendra_encrypted"
VERSION = 2
TAG_BYTES = 16
MAX_RECIPIENTS = 16


def is_private(body: Mapping[str, Any]) -> bool:
    """Whether a request's body is an envelope, good or bad."""
    return ENVELOPE in body


def kid_of(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()


def _binary(least: int, most: int | None = None) -> Callable[[Any], bytes]:
    """base64 text of at least `least` and at most `most` bytes (None: no limit)."""
    said = f"{least} bytes" if most == least else f"at least {least} bytes"

    def decode(value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            raw = base64.b64decode(value, validate=True)
        except (ValueError, TypeError):
            raise ValueError("must be base64 text") from None
        if len(raw) < least or (most is not None and len(raw) > most):
            raise ValueError(f"must hold {said}, not {len(raw)}")
        return raw

    return decode


Nonce = Annotated[bytes, BeforeValidator(_binary(12, 12))]
Sealed = Annotated[bytes, BeforeValidator(_binary(TAG_BYTES))]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Recipient(_Part):
    """The data key, sealed to one workload key: `enc` is HPKE's encapsulated key."""

    kid: str = Field(pattern=r"^[0-9a-f]{64}$")
    enc: Annotated[bytes, BeforeValidator(_binary(32, 32))] = Field(repr=False)
    sealed_dek: Annotated[bytes, BeforeValidator(_binary(32 + TAG_BYTES, 32 + TAG_BYTES))] = Field(repr=False)


class Envelope(_Part):
    """A sealed request. `binary_*` is the audio of a transcription, under the same data key."""

    v: Literal[2]
    recipients: tuple[Recipient, ...] = Field(min_length=1, max_length=MAX_RECIPIENTS)
    nonce: Nonce = Field(repr=False)
    ciphertext: Sealed = Field(repr=False)
    affinity_key: str | None = Field(default=None, max_length=512, repr=False)
    binary_nonce: Nonce | None = Field(default=None, repr=False)
    binary_ciphertext: Sealed | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Envelope:
        if (self.binary_nonce is None) != (self.binary_ciphertext is None):
            raise ValueError("binary_nonce and binary_ciphertext come together")
        return self


def parse_envelope(value: Any) -> Envelope:
    """Raises BadRequestError(`bad_envelope`) naming the field, never quoting it."""
    try:
        return Envelope.model_validate(value)
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join([ENVELOPE, *(str(part) for part in first["loc"])])
    raise BadRequestError(f"'{where}': {_said(first['type'], first['msg'])}", code="bad_envelope", param=where)


def _said(kind: str, message: str) -> str:
    """Pydantic's words, but for those that are about its own ways."""
    if kind == "literal_error":
        return f"must be {VERSION}; other versions of private inference are not spoken here"
    if kind == "string_pattern_mismatch":
        return "must be 64 hexadecimal digits: the SHA-256 of a workload key"
    if kind == "model_type":
        return "must be an object"
    return message.removeprefix("Value error, ")
