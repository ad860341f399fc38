"""The audit log on disk: rotation, retention, crashes, a disk that does not take it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import audit_files
from bridge.audit_chain import Checkpoint
from bridge.audit_files import DAY_S, AuditFiles, files_of, lines_of
from bridge.audit_log import CHECKPOINTS, AuditLog
from bridge.audit_verify import Fault, verify
from bridge.identity import Identity, generate_seed
from tests.bridge.test_audit_verify import entry
from tests.fakes.waiting import until

US = Identity.from_base64(generate_seed())
NOON = 1_790_000_000.0 // DAY_S * DAY_S + DAY_S / 2


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def all_lines(folder: Path) -> list[bytes]:
    return [line for path in files_of(folder) for line in lines_of(path)]


def check(folder: Path, *more: Checkpoint) -> list[Fault]:
    rows = (folder / CHECKPOINTS).read_text().splitlines() if (folder / CHECKPOINTS).exists() else []
    known = [*map(Checkpoint.model_validate_json, rows), *more]
    return [one.fault for one in verify(all_lines(folder), known, {US.public_key}).findings]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "wrk-1"


@pytest.fixture
def log(folder: Path) -> Iterator[AuditLog]:
    made = AuditLog(folder, US)
    made.start()
    yield made
    made.close()


def written(folder: Path, clock: Clock, days: int, retention_s: float | None = None) -> AuditFiles:
    """A log with two lines on each day."""
    files = AuditFiles(folder, retention_s, wall=clock)
    files.open()
    for day in range(days):
        clock.now = NOON + day * DAY_S
        if files.due:
            files.rotate()
        files.append([entry(0).fields(), entry(1).fields()])
        path = files_of(folder)[-1]
        os.utime(path, (clock.now, clock.now))
    return files


def test_what_is_put_is_on_disk_and_signed(log: AuditLog, folder: Path) -> None:
    for number in range(3):
        log.put(entry(number))
    log.close()
    assert [json.loads(line)["job"] for line in all_lines(folder)] == ["req_0", "req_1", "req_2"]
    assert log.newest is not None
    assert log.newest.line == 2
    assert check(folder) == []
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


def test_checkpoints_are_told_and_copied(tmp_path: Path, folder: Path) -> None:
    told: list[Checkpoint] = []
    log = AuditLog(folder, US, copy=tmp_path / "elsewhere" / "c.txt", told=told.append)
    log.start()
    log.put(entry(0))
    log.close()
    assert [one.line for one in told] == [0]
    assert (tmp_path / "elsewhere" / "c.txt").read_text() == (folder / CHECKPOINTS).read_text()


def test_the_chain_goes_on_after_a_restart(folder: Path) -> None:
    for start in range(3):
        log = AuditLog(folder, US)
        log.start()
        log.put(entry(start))
        log.close()
    assert [json.loads(line)["n"] for line in all_lines(folder)] == [0, 1, 2]
    assert check(folder) == []


def test_the_chain_goes_on_across_files(folder: Path) -> None:
    written(folder, Clock(), days=3).close()
    assert [path.name for path in files_of(folder)] == [f"{n:012d}.jsonl" for n in (0, 2, 4)]
    assert check(folder) == [Fault.UNCHECKED]


def test_a_large_file_is_followed_by_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_files, "ROTATE_BYTES", 500)
    files = AuditFiles(folder)
    for number in range(4):
        files.append([entry(number).fields()])
        if files.due:
            files.rotate()
    files.close()
    assert len(files_of(folder)) > 1
    assert check(folder) == [Fault.UNCHECKED]


def test_the_retention_removes_whole_files_and_says_so(folder: Path) -> None:
    files = written(folder, Clock(), days=6, retention_s=2.5 * DAY_S)
    files.close()
    rows = [json.loads(line) for line in all_lines(folder)]
    assert rows[0]["n"] > 0
    assert any(row["event"] == "retention" for row in rows)
    assert check(folder) == [Fault.UNCHECKED]
    files_of(folder)[0].unlink()
    assert Fault.BEGINNING in check(folder), "a file too many"


def test_a_line_that_a_crash_tore_is_cut_off_and_told(folder: Path) -> None:
    files = written(folder, Clock(), days=1)
    files.close()
    with files_of(folder)[0].open("ab") as file:
        file.write(b'{"n":2,"pr')
    again = AuditFiles(folder)
    again.append([entry(9).fields()])
    again.close()
    rows = [json.loads(line) for line in all_lines(folder)]
    assert [row["event"] for row in rows] == ["request", "request", "torn", "request"]
    assert rows[2]["bytes"] == 10
    assert check(folder) == [Fault.UNCHECKED]


def test_a_file_that_was_begun_and_never_written_to(folder: Path) -> None:
    files = written(folder, Clock(), days=1)
    files.rotate()
    files.close()
    again = AuditFiles(folder)
    again.append([entry(9).fields()])
    again.close()
    assert [json.loads(line)["n"] for line in all_lines(folder)] == [0, 1, 2]
    assert check(folder) == [Fault.UNCHECKED]


def test_half_a_line_that_a_full_disk_took_is_taken_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = written(folder, Clock(), days=1)

    def full(file: object, data: bytes) -> None:
        file.write(data[:20])  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(audit_files, "_write_all", full)
        with pytest.raises(OSError, match="space"):
            files.append([entry(2).fields()])
    files.append([entry(3).fields()])
    files.close()
    assert [json.loads(line)["job"] for line in all_lines(folder)] == ["req_0", "req_1", "req_3"]
    assert check(folder) == [Fault.UNCHECKED]


def test_while_the_disk_is_full_lines_wait_and_it_shows(
    log: AuditLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    full.set()
    real = audit_files._write_all

    def maybe(file: object, data: bytes) -> None:
        if full.is_set():
            raise OSError(28, "No space left on device")
        real(file, data)  # type: ignore[arg-type]

    monkeypatch.setattr(audit_files, "_write_all", maybe)
    monkeypatch.setattr("bridge.audit_log.RETRY_S", 0.05)
    log.put(entry(0))
    until(lambda: log.failing)
    log.put(entry(1))
    full.clear()
    until(lambda: not log.failing)
    log.close()
    rows = [json.loads(line) for line in all_lines(folder)]
    assert [row["event"] for row in rows] == ["request", "request", "resumed"]
    assert check(folder) == []


def test_more_than_fits_into_memory_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.audit_log.MAX_WAITING", 3)
    log = AuditLog(folder, US)
    for number in range(5):
        log.put(entry(number))
    log.start()
    log.close()
    rows = [json.loads(line) for line in all_lines(folder)]
    assert [row.get("lines", row.get("job")) for row in rows] == [2, "req_2", "req_3", "req_4"]


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = AuditLog(tmp_path / "file" / "wrk-1", US)
    log.start()
    until(lambda: log.failing)
    log.close()


def test_two_writers_never_write_into_one_log(log: AuditLog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.audit_log.LOCK_S", 0.05)
    log.put(entry(0))
    until(lambda: bool(files_of(folder)))
    second = AuditLog(folder, US)
    second.put(entry(1))
    second.start()
    until(lambda: second.failing)
    log.close()
    until(lambda: not second.failing)
    second.close()
    assert [json.loads(line)["job"] for line in all_lines(folder) if b"request" in line] == ["req_0", "req_1"]
    assert check(folder) == []
