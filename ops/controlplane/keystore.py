"""API keys. Only the SHA-256 of a key is stored; the plain key is shown once, when it is made."""

from __future__ import annotations

import hashlib
import secrets
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ops.controlplane.db import Database
from ops.local_keys import kept

KEY_PREFIX = "pdr_sk_"
FIRST_KEY_FILE = "api-key"
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as stored. `hash` is as good as a name: nobody gets from it to the key."""

    id: str
    name: str
    created: float
    revoked: float | None = None
    hash: str = field(default="", repr=False)


class KeyStore:
    """Any thread may call; each call is one statement on the local file."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(self, name: str) -> str:
        """A new key in plain text, which cannot be read again."""
        plain = new_key()
        self.add(plain, name)
        return plain

    def add(self, plain: str, name: str) -> None:
        """Remember a key that exists already. Idempotent; a revoked key stays revoked."""
        self._db.do(
            "INSERT OR IGNORE INTO api_keys (hash, id, name, created) VALUES (?, ?, ?, ?)",
            hash_of(plain),
            f"key-{secrets.token_hex(6)}",
            name,
            time.time(),
        )

    def find(self, plain: str) -> ApiKey | None:
        """The live key this is, or None. The lookup is by hash, so its timing says nothing about stored keys."""
        row = self._db.one(
            "SELECT id, name, created, revoked, hash FROM api_keys WHERE hash = ? AND revoked IS NULL", hash_of(plain)
        )
        return ApiKey(*row) if row else None

    def revoke(self, key_id: str) -> bool:
        """From now on the key is unknown. False when there is no such live key."""
        return (
            self._db.do(
                "UPDATE api_keys SET revoked = ? WHERE id = ? AND revoked IS NULL",
                time.time(),
                key_id,
            )
            > 0
        )

    def list(self) -> list[ApiKey]:
        rows = self._db.all("SELECT id, name, created, revoked, hash FROM api_keys ORDER BY created, id")
        return [ApiKey(*row) for row in rows]


def new_key() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def hash_of(plain: str) -> str:
    return hashlib.sha256(plain.encode("utf-8", "surrogateescape")).hexdigest()


def ensure_api_key(home: Path) -> str:
    """The first key of this home, made and written to `<home>/api-key` (mode 0600) at the first call.

    Raises ConfigError when that file is empty or readable by others, or the database cannot be used.
    """
    plain = kept(home / FIRST_KEY_FILE, new_key)
    with closing(Database(home)) as db:
        KeyStore(db).add(plain, "first key")
    return plain
