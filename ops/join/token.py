"""The join token: where to ask, whom to believe, and the secret that opens the answer. Pure.

`pj1-` and base32 of: expiry (4 bytes, seconds since the epoch) ‖ SHA-256 of the certificate (32) ‖ secret (32) ‖
port (2) ‖ host (UTF-8) ‖ the first 4 bytes of the SHA-256 of all that, so that half a token is told from a wrong one.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass, field

from ops.join.errors import JoinError

PREFIX = "pj1-"
SECRET_BYTES = 32
_HEAD = struct.Struct(">I32s32sH")
_CHECK_BYTES = 4
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Token:
    """`expires`: seconds since the epoch; `fingerprint`: SHA-256 of the service's certificate (DER)."""

    host: str
    port: int
    expires: int
    fingerprint: bytes
    secret: bytes = field(repr=False)

    @property
    def text(self) -> str:
        raw = _HEAD.pack(self.expires, self.fingerprint, self.secret, self.port) + self.host.encode()
        return PREFIX + base64.b32encode(raw + _check(raw)).decode().rstrip("=").lower()

    def left(self, now: float) -> float:
        """Seconds until it is void, not above 0 when it is."""
        return self.expires - now


def parse(text: str) -> Token:
    """Raises JoinError(`join_token_invalid`), which quotes nothing of it."""
    text = "".join(text.split())  # a terminal may have broken the line
    if not text.startswith(PREFIX) or len(text) > _LONGEST:
        raise _invalid(f"it does not start with {PREFIX}")
    body = text.removeprefix(PREFIX).upper()
    try:
        whole = base64.b32decode(body + "=" * (-len(body) % 8))
    except ValueError:
        raise _invalid("it holds characters that no token has") from None
    raw, check = whole[:-_CHECK_BYTES], whole[-_CHECK_BYTES:]
    if len(raw) <= _HEAD.size or check != _check(raw):
        raise _invalid("a part of it is missing or changed")
    expires, fingerprint, secret, port = _HEAD.unpack_from(raw)
    try:
        host = raw[_HEAD.size :].decode()
    except UnicodeDecodeError:
        raise _invalid("it names no host") from None
    return Token(host, port, expires, fingerprint, secret)


def _check(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()[:_CHECK_BYTES]


def _invalid(why: str) -> JoinError:
    return JoinError(
        f"this is no join token: {why}; copy the whole line that `pendra fleet token` printed",
        code="join_token_invalid",
    )
