"""Opens a sealed request: RFC 9180 HPKE base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.

The data key is sealed to each recipient with info `pendra-pi-v1` and no associated data; body and binary part are
sealed under the data key, bound to model, stream flag and task type. The response key and the key that protects what
a failover needs are exported from the recipient's HPKE context, so whoever opens the envelope again gets the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from pydantic_core import from_json
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey
from pyhpke.exceptions import PyHPKEError

from tasks.errors import BadRequestError, UnavailableError
from tasks.private import Envelope, Recipient
from worker.private.keys import Keyring, WorkloadKey

SUITE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)
INFO = b"pendra-pi-v1"
RESPONSE_LABEL = b"pendra-pi-v1:rdek"
RESUME_LABEL = b"pendra-pi-v1:resume"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Opened:
    """What was in an envelope, and the keys for the way back. `reply_id` names the response key, telling nothing."""

    kid: str
    reply_id: str
    body: dict[str, Any] = field(repr=False)
    binary: bytes | None = field(repr=False)
    response_key: bytes = field(repr=False)
    resume_key: bytes = field(repr=False)


def associated_data(model: str, *, stream: bool, task_type: str) -> bytes:
    """What body and binary part are bound to (v1's layout with its last slot left empty)."""
    return b"\0".join([INFO, model.encode(), b"1" if stream else b"0", task_type.encode(), b""])


def open_envelope(
    envelope: Envelope, keyring: Keyring, *, model: str, stream: bool, task_type: str, kid: str = ""
) -> Opened:
    """`kid`: the key that an earlier attempt replied under; no other will do.

    Raises UnavailableError(`no_private_inference_worker`) when we hold none of the keys, and BadRequestError
    (`envelope_not_opened`) when the envelope was changed or was sealed for another model, mode or task.
    """
    recipient, key = _recipient(envelope, keyring, kid)
    try:
        context = SUITE.create_recipient_context(
            recipient.enc, KEMKey.from_pyca_cryptography_key(key.private), info=INFO
        )
        aead = ChaCha20Poly1305(context.open(recipient.sealed_dek, b""))
        aad = associated_data(model, stream=stream, task_type=task_type)
        body = aead.decrypt(envelope.nonce, envelope.ciphertext, aad)
        binary = _binary(envelope, aead, aad)
        response_key = context.export(RESPONSE_LABEL, KEY_BYTES)
        resume_key = context.export(RESUME_LABEL, KEY_BYTES)
    except (InvalidTag, PyHPKEError, ValueError):  # ValueError: a point of small order, or a data key of a wrong size
        raise BadRequestError(
            "the sealed request does not open: it was changed on its way, or sealed for another model, stream flag "
            "or endpoint than it was sent with",
            code="envelope_not_opened",
        ) from None
    return Opened(key.kid, _reply_id(recipient), _object(body), binary, response_key, resume_key)


def _recipient(envelope: Envelope, keyring: Keyring, kid: str) -> tuple[Recipient, WorkloadKey]:
    by_kid = {recipient.kid: recipient for recipient in envelope.recipients if kid in ("", recipient.kid)}
    key = keyring.first_of(by_kid)
    if key is None:
        raise UnavailableError(
            "this worker holds no key that the request was encrypted to; fetch the key again and retry",
            code="no_private_inference_worker",
        )
    return by_kid[key.kid], key


def _binary(envelope: Envelope, aead: ChaCha20Poly1305, aad: bytes) -> bytes | None:
    if envelope.binary_nonce is None or envelope.binary_ciphertext is None:
        return None
    return aead.decrypt(envelope.binary_nonce, envelope.binary_ciphertext, aad)


def _reply_id(recipient: Recipient) -> str:
    """The response key follows from kid and enc alone."""
    return hashlib.sha256(b"reply\0" + recipient.kid.encode() + recipient.enc).hexdigest()[:32]


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError:  # its own words may quote the body
        value = None
    if not isinstance(value, dict):
        raise BadRequestError("the sealed body is not a JSON object", code="invalid_json")
    return value
