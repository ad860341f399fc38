"""What only the holder of a token can say, and only the holder of the token can read. Pure but for the nonce.

HKDF-SHA256 (RFC 5869) of the token's secret gives two keys: one proves that the asker has the token (HMAC over who
asks), the other seals the grant (ChaCha20-Poly1305, RFC 8439, random nonce; a key lives for a few messages). So the
grant is safe even where somebody reads or takes over the TLS connection.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ops.join.errors import JoinError
from ops.join.grant import Grant

_NONCE_BYTES = 12


def proof(secret: bytes, node: str, nonce: str) -> str:
    """Hex; binds the token to the asking host and this one question."""
    return hmac.new(_key(secret, b"proof"), f"{nonce}\n{node}".encode(), hashlib.sha256).hexdigest()


def proves(secret: bytes, node: str, nonce: str, given: str) -> bool:
    return hmac.compare_digest(proof(secret, node, nonce), given)


def seal(secret: bytes, grant: Grant, node: str, nonce: str) -> bytes:
    random = os.urandom(_NONCE_BYTES)
    return random + _aead(secret).encrypt(random, grant.model_dump_json().encode(), _bound(node, nonce))


def opened(secret: bytes, sealed: bytes, node: str, nonce: str) -> Grant:
    """Raises JoinError when it was sealed for somebody else or changed."""
    try:
        raw = _aead(secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound(node, nonce))
        return Grant.model_validate_json(raw)
    except (InvalidTag, ValueError):
        raise JoinError(
            "the answer does not open with this token; make a new one with `pendra fleet token`"
        ) from None


def _aead(secret: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(_key(secret, b"grant"))


def _key(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pendra-join-v1 " + purpose).derive(secret)


def _bound(node: str, nonce: str) -> bytes:
    return f"{nonce}\n{node}".encode()
