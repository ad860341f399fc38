"""API keys. Only the SHA-256 of a key is stored; the plain key is shown once, when it is made."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.controlplane.db import Database
from ops.controlplane.scope import Scope
from ops.local_keys import kept

KEY_PREFIX = "pdr_sk_"
FIRST_KEY_FILE = "api-key"
_KEY_BYTES = 32
_COLUMNS = "id, name, created, revoked, hash, admin, scope"
_ALL = Scope()


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
    scope: Scope = _ALL

    def live(self, now: float) -> bool:
        return self.revoked is None and not self.scope.expired(now)

    def view(self, now: float) -> dict[str, Any]:
        """For consoles and `pendra keys list`: everything but the hash."""
        state = "revoked" if self.revoked is not None else "live" if self.live(now) else "expired"
        about = {"object": "api_key", "id": self.id, "name": self.name, "state": state, "admin": self.admin}
        return {**about, "created": self.created, "revoked": self.revoked, **self.scope.model_dump(mode="json")}


class KeyStore:
    """Any thread may call; each call is one statement on the local file."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(self, name: str, *, admin: bool = False, scope: Scope = _ALL) -> str:
        """A new key in plain text, which cannot be read again."""
        plain = new_key()
        self.add(plain, name, admin=admin, scope=scope)
        return plain

    def add(self, plain: str, name: str, *, admin: bool = False, scope: Scope = _ALL) -> None:
        """Remember a key that exists already. Idempotent; a revoked key stays revoked, an admin's an admin's."""
        self._db.do(
            "INSERT INTO api_keys (hash, id, name, created, admin, scope) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (hash) DO UPDATE SET admin = MAX(admin, excluded.admin)",
            hash_of(plain),
            f"key-{secrets.token_hex(6)}",
            name,
            time.time(),
            admin,
            scope.model_dump_json(),
        )

    def find(self, plain: str) -> ApiKey | None:
        """The live key this is, or None."""
        return self.find_hash(hash_of(plain))

    def find_hash(self, key_hash: str) -> ApiKey | None:
        """The live key with this hash, or None. What is compared are hashes of 256 random bits, in constant time
        after the index has found one: no timing says anything about a stored key.
        """
        row = self._db.one(f"SELECT {_COLUMNS} FROM api_keys WHERE hash = ?", key_hash)  # noqa: S608  # constant
        key = _key(row) if row else None
        return key if key and hmac.compare_digest(key.hash, key_hash) and key.live(time.time()) else None

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


def _key(row: tuple[Any, ...]) -> ApiKey:
    key_id, name, created, revoked, key_hash, admin, scope = row
    return ApiKey(key_id, name, created, revoked, key_hash, bool(admin), Scope.model_validate_json(scope))


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
