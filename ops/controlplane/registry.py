"""Which bridges may connect: their Ed25519 public keys, and what is known of them.

A key that nobody enrolled and that proves itself waits as `pending` until somebody approves it. Revoking is for good.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ops.controlplane.db import Database
from tasks.errors import BadRequestError, ConfigError, NotFoundError

_PUBLIC_KEY_BYTES = 32
MAX_PENDING = 100


class Status(StrEnum):
    PENDING = "pending"
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

    @property
    def id(self) -> str:
        """Short, and good in a URL: from the key's hash."""
        return f"idn-{hashlib.sha256(self.public_key.encode()).hexdigest()[:16]}"

    def view(self) -> dict[str, Any]:
        """For consoles and `pendra identities`."""
        about = {"object": "identity", "id": self.id, "public_key": self.public_key, "name": self.name}
        return {
            **about,
            "state": str(self.status),
            "worker_id": self.worker_id,
            "created": self.created,
            "last_seen": self.last_seen,
        }


_COLUMNS = "public_key, worker_id, name, status, created, last_seen"


class Registry:
    """Any thread may call."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def register(self, public_key: str, name: str) -> None:
        """Let this key in. Idempotent: a known key gets the new name, a pending one is approved, and a revoked one
        stays revoked.

        Raises ConfigError when `public_key` is not the base64 of 32 bytes.
        """
        _check(public_key)
        self._db.do(
            "INSERT INTO workers (public_key, name, status, created) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (public_key) DO UPDATE SET name = excluded.name, "
            "status = CASE status WHEN 'pending' THEN excluded.status ELSE status END",
            public_key,
            name,
            Status.REGISTERED.value,
            time.time(),
        )

    def ask(self, public_key: str, worker_id: str, name: str) -> None:
        """An unknown key has proved itself: it waits for approval. Only the newest MAX_PENDING are kept."""
        now = time.time()
        self._db.do(
            "INSERT INTO workers (public_key, worker_id, name, status, created, last_seen) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (public_key) DO UPDATE SET worker_id = excluded.worker_id, last_seen = excluded.last_seen",
            public_key,
            worker_id,
            name,
            Status.PENDING.value,
            now,
            now,
        )
        self._db.do(
            "DELETE FROM workers WHERE status = 'pending' AND public_key NOT IN (SELECT public_key FROM workers "
            "WHERE status = 'pending' ORDER BY last_seen DESC, public_key LIMIT ?)",
            MAX_PENDING,
        )

    def named(self, name: str) -> Registration:
        """By id or public key. Raises NotFoundError."""
        found = next((row for row in self.list() if name in (row.id, row.public_key)), None)
        if found is None:
            raise NotFoundError(
                "there is no such identity; `pendra identities list` shows them", code="identity_not_found"
            )
        return found

    def approve(self, name: str) -> Registration:
        """Let a pending key in. Idempotent. Raises NotFoundError, and BadRequestError for a revoked one."""
        row = self.named(name)
        if row.status is Status.REVOKED:
            raise BadRequestError(f"{row.id} was revoked, which is for good; give that host a new key", param="id")
        self.register(row.public_key, row.name)
        return self.named(name)

    def revoked(self, public_keys: Iterable[str]) -> set[str]:
        """Those of these keys that may not be here (any more)."""
        asked = list(public_keys)
        marks = ", ".join("?" * len(asked))
        sql = f"SELECT public_key FROM workers WHERE status = 'registered' AND public_key IN ({marks})"  # noqa: S608
        return set(asked) - {row[0] for row in self._db.all(sql, *asked)}

    def find(self, public_key: str) -> Registration | None:
        row = self._db.one(f"SELECT {_COLUMNS} FROM workers WHERE public_key = ?", public_key)  # noqa: S608  # constant
        return _registration(row) if row else None

    def list(self) -> list[Registration]:
        rows = self._db.all(f"SELECT {_COLUMNS} FROM workers ORDER BY created, public_key")  # noqa: S608  # constant
        return [_registration(row) for row in rows]

    def pending(self) -> tuple[str, ...]:
        """Ids of those that wait for approval, sorted."""
        rows = self._db.all(f"SELECT {_COLUMNS} FROM workers WHERE status = 'pending'")  # noqa: S608  # constant
        return tuple(sorted(_registration(row).id for row in rows))

    def seen(self, public_key: str, worker_id: str) -> None:
        """The key has just proved itself under this worker id."""
        self._db.do(
            "UPDATE workers SET worker_id = ?, last_seen = ? WHERE public_key = ?", worker_id, time.time(), public_key
        )

    def revoke(self, public_key: str) -> bool:
        """False when the key is unknown. The running control plane sees it within a tick and cuts the bridge off."""
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
