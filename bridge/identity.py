"""Who a bridge is: an Ed25519 key pair (RFC 8032), and the proof of it at connect.

The bridge signs the API's challenge (`sign_hello`); the API side checks the hello with `refusal`. Both are pure.
The private key is the base64 of its 32-byte seed, as the console issues it in `GPU_WORKER_PRIVATE_KEY`.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Container
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bridge.protocol import (
    MAX_CLOCK_SKEW_S,
    MIN_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    Challenge,
    CloseCode,
    Hello,
    signed_bytes,
)
from tasks.errors import ConfigError

SEED_BYTES = 32
NONCE_BYTES = 32


class Identity:
    """A private key that never shows itself; `public_key` is base64 of the 32 raw bytes. Thread-safe: immutable."""

    __slots__ = ("_key", "public_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ConfigError(
                f"GPU_WORKER_PRIVATE_KEY holds {len(seed)} bytes; a base64 Ed25519 seed of {SEED_BYTES} is needed"
            )
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    @classmethod
    def from_base64(cls, text: str) -> Identity:
        """Raises ConfigError, without quoting the key, when `text` is not base64 of 32 bytes."""
        try:
            seed = base64.b64decode(text.strip(), validate=True)
        except ValueError:
            raise ConfigError(
                "GPU_WORKER_PRIVATE_KEY is not base64; copy the key again as the console shows it"
            ) from None
        return cls(seed)

    def sign(self, message: bytes) -> str:
        return base64.b64encode(self._key.sign(message)).decode()

    def __repr__(self) -> str:
        return f"Identity(public_key={self.public_key})"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a hello is not accepted: the close code, and a reason short enough for a close frame (123 bytes)."""

    code: CloseCode
    reason: str


def generate_seed() -> str:
    """A new private key, base64."""
    return base64.b64encode(os.urandom(SEED_BYTES)).decode()


def generate_nonce() -> str:
    """A challenge's nonce, base64."""
    return base64.b64encode(os.urandom(NONCE_BYTES)).decode()


def sign_hello(
    challenge: Challenge, identity: Identity, *, worker_id: str, name: str, version: str, now: float
) -> Hello:
    """The answer to `challenge`. `now` is this machine's clock, seconds since the epoch."""
    signature = identity.sign(signed_bytes(challenge.nonce, worker_id, now, PROTOCOL_VERSION))
    return Hello(
        worker_id=worker_id,
        name=name,
        version=version,
        public_key=identity.public_key,
        nonce=challenge.nonce,
        time=now,
        protocol=PROTOCOL_VERSION,
        signature=signature,
    )


def refusal(
    hello: Hello, *, nonce: str, known: Container[str], now: float, revoked: Container[str] = ()
) -> Refusal | None:
    """Why this hello must be refused, or None when it proves its key.

    `nonce` is the one sent on *this* connection: an answer to any other challenge is a replay. `known` and
    `revoked` hold base64 public keys. `now` is the API's clock.
    """
    if hello.protocol < MIN_PROTOCOL_VERSION:
        return Refusal(
            CloseCode.OLD_PROTOCOL,
            f"protocol {hello.protocol} is too old: {MIN_PROTOCOL_VERSION} or newer is needed, update this worker",
        )
    if hello.public_key in revoked:
        return Refusal(CloseCode.REVOKED, "this worker key was revoked; issue a new one in the console")
    if hello.public_key not in known:
        return Refusal(CloseCode.UNKNOWN_KEY, "unknown worker key; register its public key in the console")
    if hello.nonce != nonce:
        return Refusal(CloseCode.REPLAYED_NONCE, "the hello answers another connection's challenge (replayed nonce)")
    if not _verifies(hello):
        return Refusal(CloseCode.BAD_SIGNATURE, "the hello's signature does not match its public key")
    if not abs(now - hello.time) <= MAX_CLOCK_SKEW_S:  # so that NaN, which no frame may hold, is refused here too
        return Refusal(
            CloseCode.CLOCK_SKEW,
            f"clock is off by {hello.time - now:+.0f} s, at most {MAX_CLOCK_SKEW_S} s allowed; check time sync (NTP)",
        )
    return None


def _verifies(hello: Hello) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(hello.public_key, validate=True))
        signature = base64.b64decode(hello.signature, validate=True)
        key.verify(signature, signed_bytes(hello.nonce, hello.worker_id, hello.time, hello.protocol))
    except (InvalidSignature, ValueError):
        return False
    return True
