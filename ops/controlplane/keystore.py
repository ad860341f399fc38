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
_COLUMNS = "id, name, created, revoked, hash, admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as stored. `hash` is as good as a name: nobody gets from it to the key.

    `admin`: it may change the fleet (installs), not only use it.
    """

    id: str
    name: str
    created: float
    revoked: float | None = None
    hash: str = field(default="", repr=False)
    admin: bool = False


class KeyStore:
    """Any thread may call; each call is one statement on the local file."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(self, name: str, *, admin: bool = False) -> str:
        """A new key in plain text, which cannot be read again."""
        plain = new_key()
        self.add(plain, name, admin=admin)
        return plain

    def add(self, plain: str, name: str, *, admin: bool = False) -> None:
        """Remember a key that exists already. Idempotent; a revoked key stays revoked, an admin's an admin's."""
        self._db.do(
            "INSERT INTO api_keys (hash, id, name, created, admin) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (hash) DO UPDATE SET admin = MAX(admin, excluded.admin)",
            hash_of(plain),
            f"key-{secrets.token_hex(6)}",
            name,
            time.time(),
            admin,
        )

    def find(self, plain: str) -> ApiKey | None:
        """The live key this is, or None. The lookup is by hash, so its timing says nothing about stored keys."""
        row = self._db.one(
            f"SELECT {_COLUMNS} FROM api_keys WHERE hash = ? AND revoked IS NULL",  # noqa: S608  # constant
            hash_of(plain),
        )
        return _key(row) if row else None

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
        rows = self._db.all(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created, id")  # noqa: S608  # constant
        return [_key(row) for row in rows]


def _key(row: tuple[str, str, float, float | None, str, int]) -> ApiKey:
    key_id, name, created, revoked, key_hash, admin = row
    return ApiKey(key_id, name, created, revoked, key_hash, admin=bool(admin))


def new_key() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def hash_of(plain: str) -> str:
    return hashlib.sha256(plain.encode("utf-8", "surrogateescape")).hexdigest()


def ensure_api_key(home: Path) -> str:
    """The first key of this home (an admin's), made and written to `<home>/api-key` (mode 0600) at the first call.

    Raises ConfigError when that file is empty or readable by others, or the database cannot be used.
    """
    plain = kept(home / FIRST_KEY_FILE, new_key)
    with closing(Database(home)) as db:
        KeyStore(db).add(plain, "first key", admin=True)
    return plain
