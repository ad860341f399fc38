"""Which bridges may connect: their Ed25519 public keys, and what is known of them."""

from __future__ import annotations

import base64
import time
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ops.controlplane.db import Database
from tasks.errors import ConfigError

_PUBLIC_KEY_BYTES = 32


class Status(StrEnum):
    REGISTERED = "registered"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Registration:
    public_key: str
    worker_id: str | None
    name: str
    status: Status
    created: float
    last_seen: float | None


_COLUMNS = "public_key, worker_id, name, status, created, last_seen"


class Registry:
    """Any thread may call."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def register(self, public_key: str, name: str) -> None:
        """Let this key in. Idempotent: a known key gets the new name, and a revoked one stays revoked.

        Raises ConfigError when `public_key` is not the base64 of 32 bytes.
        """
        _check(public_key)
        self._db.do(
            "INSERT INTO workers (public_key, name, status, created) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (public_key) DO UPDATE SET name = excluded.name",
            public_key,
            name,
            Status.REGISTERED.value,
            time.time(),
        )

    def find(self, public_key: str) -> Registration | None:
        row = self._db.one(f"SELECT {_COLUMNS} FROM workers WHERE public_key = ?", public_key)  # noqa: S608  # constant
        return _registration(row) if row else None

    def list(self) -> list[Registration]:
        rows = self._db.all(f"SELECT {_COLUMNS} FROM workers ORDER BY created, public_key")  # noqa: S608  # constant
        return [_registration(row) for row in rows]

    def seen(self, public_key: str, worker_id: str) -> None:
        """The key has just proved itself under this worker id."""
        self._db.do(
            "UPDATE workers SET worker_id = ?, last_seen = ? WHERE public_key = ?", worker_id, time.time(), public_key
        )

    def revoke(self, public_key: str) -> bool:
        """False when the key is unknown. Open connections are not closed by this."""
        return self._db.do("UPDATE workers SET status = ? WHERE public_key = ?", Status.REVOKED.value, public_key) > 0


def register_worker(home: Path, public_key_b64: str, name: str) -> None:
    """Let the bridge with this public key connect to the control plane of `home`. Idempotent.

    Raises ConfigError when the key is not one, or the database cannot be used.
    """
    with closing(Database(home)) as db:
        Registry(db).register(public_key_b64, name)


def _registration(row: tuple[str, str | None, str, str, float, float | None]) -> Registration:
    public_key, worker_id, name, status, created, last_seen = row
    return Registration(public_key, worker_id, name, Status(status), created, last_seen)


def _check(public_key: str) -> None:
    try:
        raw = base64.b64decode(public_key, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != _PUBLIC_KEY_BYTES or base64.b64encode(raw).decode() != public_key:
        raise ConfigError("a worker's public key is the base64 of 32 bytes (Ed25519); this is not one")
