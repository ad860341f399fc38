"""What is on disk: keys as hashes, workers, usage; modes; and what happens to a file that is not ours."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ops.controlplane import catalogue, ensure_api_key, register_worker
from ops.controlplane.db import Database
from ops.controlplane.keystore import KeyStore, hash_of
from ops.controlplane.registry import Registry, Status
from ops.controlplane.scope import Scope
from ops.controlplane.usage import Total, UsageLog
from tasks.contract import Usage
from tasks.errors import ConfigError

PUBLIC_KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path)) as opened:
        yield opened


def test_the_first_key_is_made_once(tmp_path: Path) -> None:
    key = ensure_api_key(tmp_path)
    assert key.startswith("pdr_sk_")
    assert ensure_api_key(tmp_path) == key
    path = tmp_path / "api-key"
    assert path.read_text().strip() == key
    assert path.stat().st_mode & 0o777 == 0o600


def test_only_the_hash_is_stored(tmp_path: Path) -> None:
    key = ensure_api_key(tmp_path)
    for path in tmp_path.glob("controlplane.db*"):
        assert key.encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_lost_database_learns_the_key_of_the_file_again(tmp_path: Path) -> None:
    key = ensure_api_key(tmp_path)
    for path in tmp_path.glob("controlplane.db*"):
        path.unlink()
    assert ensure_api_key(tmp_path) == key
    with closing(Database(tmp_path)) as db:
        assert KeyStore(db).find(key) is not None


def test_keys_are_created_found_and_revoked(db: Database) -> None:
    store = KeyStore(db)
    plain = store.create("ci")
    found = store.find(plain)
    assert found is not None
    assert found.name == "ci"
    assert plain not in repr(found)
    assert store.find(plain + "x") is None
    assert store.revoke(found.id)
    assert not store.revoke(found.id)
    assert store.find(plain) is None
    assert [key.revoked is not None for key in store.list()] == [True]


def test_workers_are_registered_once(tmp_path: Path) -> None:
    register_worker(tmp_path, PUBLIC_KEY, "first")
    register_worker(tmp_path, PUBLIC_KEY, "second")
    with closing(Database(tmp_path)) as db:
        registry = Registry(db)
        rows = registry.list()
        assert [(row.name, row.status, row.last_seen) for row in rows] == [("second", Status.REGISTERED, None)]
        assert registry.revoke(PUBLIC_KEY)
    register_worker(tmp_path, PUBLIC_KEY, "third")
    with closing(Database(tmp_path)) as db:
        row = Registry(db).find(PUBLIC_KEY)
        assert row is not None
        assert row.status is Status.REVOKED, "registering again must not undo a revocation"


@pytest.mark.parametrize("bad", ["", "x", "AAAA", PUBLIC_KEY + "\n", base64.b64encode(b"k" * 33).decode()])
def test_what_is_no_public_key(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        register_worker(tmp_path, bad, "x")


def test_usage_sums_up(db: Database) -> None:
    log = UsageLog(db)
    for tokens in (1, 2):
        log.add(
            request_id=f"r{tokens}",
            key_id="k",
            kind="chat",
            model="m",
            worker_id="w",
            usage=Usage(prompt_tokens=10, completion_tokens=tokens),
        )
    assert log.totals() == []
    log.flush()
    assert log.pending == 0
    assert log.totals() == [Total("k", "m", 2, 20, 3)]


def test_usage_that_cannot_be_written_waits(db: Database) -> None:
    log = UsageLog(db)
    log.add(request_id="r", key_id="k", kind="chat", model="m", worker_id="w", usage=Usage())
    db.do("ALTER TABLE usage RENAME TO away")
    log.flush()
    assert log.pending == 1
    db.do("ALTER TABLE away RENAME TO usage")
    log.flush()
    assert log.pending == 0
    assert [total.requests for total in log.totals()] == [1]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "controlplane.db").write_text("this is no database, and long enough to be looked at" * 9)
    with pytest.raises(ConfigError, match=r"controlplane\.db"):
        Database(tmp_path)


def test_a_newer_schema(tmp_path: Path) -> None:
    with closing(Database(tmp_path)) as db:
        db.do("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="schema version 99"):
        Database(tmp_path)


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_file_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    columns = (
        "hash TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, created REAL NOT NULL, revoked REAL"
    )
    admin = ", admin INTEGER NOT NULL DEFAULT 0" if version > 1 else ""
    with closing(sqlite3.connect(tmp_path / "controlplane.db")) as old:
        old.execute(f"CREATE TABLE api_keys ({columns}{admin}) WITHOUT ROWID")
        old.execute("INSERT INTO api_keys (hash, id, name, created) VALUES (?, 'key-1', 'old', 1.0)", [hash_of("p")])
        old.execute(f"PRAGMA user_version = {version}")
        old.commit()
    for _ in range(2):  # once is enough, and twice does no harm
        with closing(Database(tmp_path)) as db:
            found = KeyStore(db).find("p")
            assert found is not None
            assert (found.name, found.admin, found.scope) == ("old", False, Scope())


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot use"):
        Database(tmp_path / "file" / "home")


def test_a_failed_batch_leaves_nothing_behind(db: Database) -> None:
    row = ("h", "i", "n", 1.0)
    sql = "INSERT INTO api_keys (hash, id, name, created) VALUES (?, ?, ?, ?)"
    with pytest.raises(sqlite3.IntegrityError):
        db.do_many(sql, [row, row])
    assert db.all("SELECT * FROM api_keys") == []


def test_the_shipped_catalogue() -> None:
    entry = catalogue.load().find("smollm2:135m")
    assert entry is not None
    assert (entry.licence, entry.context_length, entry.variants[0].size) == ("Apache-2.0", 8192, 98_362_432)
    assert "smollm2:135m" in catalogue.load()
    assert "other" not in catalogue.load()
