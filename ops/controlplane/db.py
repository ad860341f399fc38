"""The control plane's state on disk: one SQLite file under its home, readable by its owner only.

Tables: `api_keys` (hashes), `workers` (public keys), `usage` (token counts), `installs` (what was asked for and
became of it), `checkpoints` (signed heads of the bridges' audit logs). No text of a request or a reply.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tasks.errors import ConfigError

FILE_NAME = "controlplane.db"
SCHEMA_VERSION = 3
_FROM_VERSION = {  # what an older file lacks, by the version it has
    1: "ALTER TABLE api_keys ADD COLUMN admin INTEGER NOT NULL DEFAULT 0",
    2: "ALTER TABLE api_keys ADD COLUMN scope TEXT NOT NULL DEFAULT '{}'",
}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS api_keys (
    hash TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, created REAL NOT NULL, revoked REAL,
    admin INTEGER NOT NULL DEFAULT 0, scope TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS workers (
    public_key TEXT PRIMARY KEY, worker_id TEXT, name TEXT NOT NULL, status TEXT NOT NULL,
    created REAL NOT NULL, last_seen REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS usage (
    at REAL NOT NULL, request_id TEXT NOT NULL, key_id TEXT NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL,
    worker_id TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS installs (
    id TEXT PRIMARY KEY, created REAL NOT NULL, record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoints (
    public_key TEXT NOT NULL, log TEXT NOT NULL, line INTEGER NOT NULL, record TEXT NOT NULL, received REAL NOT NULL,
    PRIMARY KEY (public_key, log, line)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS usage_by_key ON usage (key_id, at);
"""


class Database:
    """One connection behind a lock; any thread may call. Several processes may have the file open (WAL)."""

    def __init__(self, home: Path) -> None:
        """Raises ConfigError when the file cannot be opened, is not ours, or is of a newer build."""
        self.path = home / FILE_NAME
        self._lock = threading.Lock()
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # -wal and -shm take this file's mode
            self.path.chmod(0o600)
            self._connection = sqlite3.connect(
                self.path, timeout=10, isolation_level=None, check_same_thread=False, cached_statements=32
            )
        except (OSError, sqlite3.Error) as exc:
            raise self._unusable(exc) from exc
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        with self._lock:
            row: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
            return row

    def all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def do(self, sql: str, *values: object) -> int:
        """Run one statement; the number of rows it changed."""
        with self._lock:
            return self._connection.execute(sql, values).rowcount

    def do_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """All rows in one transaction."""
        with self._lock, self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany(sql, rows)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA_VERSION:
                raise ConfigError(
                    f"{self.path} has schema version {version}, this build knows {SCHEMA_VERSION}; "
                    "update pendra-worker or use another home"
                )
            for older in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
                self._connection.execute(_FROM_VERSION[older])
            self._connection.executescript(_SCHEMA)
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.Error as exc:
            raise self._unusable(exc) from exc

    def _unusable(self, exc: Exception) -> ConfigError:
        return ConfigError(f"cannot use the database {self.path}: {exc}; check the folder, or move the file away")
