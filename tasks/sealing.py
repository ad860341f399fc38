"""The fleet seal: nothing readable of a job or a reply is ever on Redis.

A sealed message is `magic ‖ key id (4) ‖ salt (16) ‖ counter (8) ‖ ciphertext+tag`. Each process draws one random
salt at start, derives its own subkey with HKDF-SHA256(fleet key, salt), and uses a counter as the nonce, because
random 96-bit nonces run out at token rates. Associated data binds a payload to its job id and an event to
(job id, attempt, seq), so a sealed message moved elsewhere does not open.

ChaCha20-Poly1305 (RFC 8439), HKDF (RFC 5869).
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tasks.errors import ConfigError, SealError

KEY_BYTES = 32
_MAGIC = b"PS1"
_SALT_BYTES = 16
_HEAD = struct.Struct(f">3s4s{_SALT_BYTES}sQ")
_SUBKEYS_KEPT = 1024


class FleetKey:
    """A 32-byte fleet key whose repr shows its id only. Thread-safe: immutable."""

    __slots__ = ("_raw", "id")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise ConfigError(f"PENDRA_FLEET_KEY holds {len(raw)} bytes; {KEY_BYTES} bytes in base64 are needed")
        self._raw = raw
        self.id = hashlib.sha256(b"pendra-fleet-key-id" + raw).digest()[:4]

    def __repr__(self) -> str:
        return f"FleetKey(id={self.id.hex()})"

    @classmethod
    def generate(cls) -> FleetKey:
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def from_base64(cls, text: str) -> FleetKey:
        try:
            raw = base64.b64decode(text.strip(), validate=True)
        except ValueError:
            raise ConfigError("PENDRA_FLEET_KEY is not base64; `pendra setup` makes a good one") from None
        return cls(raw)

    def to_base64(self) -> str:
        return base64.b64encode(self._raw).decode()

    def subkey(self, salt: bytes) -> ChaCha20Poly1305:
        raw = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=b"pendra-seal-v1").derive(self._raw)
        return ChaCha20Poly1305(raw)


class Sealer:
    """Seals under one fleet key with this process's own subkey. Thread-safe. Never share across fork."""

    def __init__(self, key: FleetKey) -> None:
        salt = os.urandom(_SALT_BYTES)
        self._begin = _MAGIC + key.id + salt
        self._aead = key.subkey(salt)
        self._counter = itertools.count()

    def seal(self, plaintext: bytes, aad: bytes) -> bytes:
        counter = next(self._counter).to_bytes(8, "big")
        return self._begin + counter + self._aead.encrypt(b"\0\0\0\0" + counter, plaintext, aad)


class Opener:
    """Opens what any process of the fleet sealed, under any of the live keys. Thread-safe."""

    def __init__(self, *live: FleetKey) -> None:
        self._keys = {key.id: key for key in live}
        self._subkeys: dict[bytes, ChaCha20Poly1305] = {}

    def open(self, sealed: bytes, aad: bytes) -> bytes:
        """The plaintext. Raises SealError (never with content) when the key is unknown or the message changed."""
        if len(sealed) < _HEAD.size:
            raise SealError(f"a sealed message of {len(sealed)} bytes is shorter than its header")
        magic, key_id, salt, counter = _HEAD.unpack_from(sealed)
        if magic != _MAGIC:
            raise SealError("not a sealed message: bad magic")
        try:
            nonce = b"\0\0\0\0" + counter.to_bytes(8, "big")
            return self._subkey(key_id, salt).decrypt(nonce, sealed[_HEAD.size :], aad)
        except InvalidTag:
            raise SealError("a sealed message was changed, cut or moved on its way") from None

    def _subkey(self, key_id: bytes, salt: bytes) -> ChaCha20Poly1305:
        aead = self._subkeys.get(key_id + salt)
        if aead is None:
            key = self._keys.get(key_id)
            if key is None:
                raise SealError(f"sealed under fleet key {key_id.hex()}, which this process does not hold")
            if len(self._subkeys) >= _SUBKEYS_KEPT:
                self._subkeys.clear()
            aead = self._subkeys[key_id + salt] = key.subkey(salt)
        return aead


def payload_aad(job_id: str) -> bytes:
    return b"job\0" + job_id.encode()


def open_job_aad(job_id: str) -> bytes:
    return b"open\0" + job_id.encode()


def blob_aad(key: str, name: str, index: int) -> bytes:
    """`key` is the Redis key it lies under, which names the job and the direction."""
    return b"blob\0%s\0%s\0%d" % (key.encode(), name.encode(), index)


def event_aad(job_id: str, attempt: int, seq: int) -> bytes:
    return f"event\0{job_id}\0{attempt}\0{seq}".encode()
