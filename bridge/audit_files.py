"""The files of one audit log: `<folder>/<number of the first line>.jsonl`, one after the other, a day each at most.

One thread. Every `append` is on the disk when it returns. What a crash or a full disk left half written is cut off.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from bridge.audit_chain import Head, digest_of, write_line
from tasks.atomic_file import sync_folder

ROTATE_BYTES = 64 * 1024 * 1024
DAY_S = 86_400.0
_SUFFIX = ".jsonl"
Fields = Mapping[str, Any]


class AuditFiles:
    """`retention_s` None: nothing is ever removed. Every method raises OSError, and goes on where it was then."""

    def __init__(
        self, folder: Path, retention_s: float | None = None, *, wall: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        self.head = Head()
        self._retention_s = retention_s
        self._wall = wall
        self._file: BinaryIO | None = None
        self._size = 0
        self._day = 0

    def open(self) -> None:
        """Find the log's end. Idempotent."""
        if self._file is not None:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = files_of(self.folder)
        if not found:
            self._begin()
            return
        newest = found[-1]
        whole, torn = _mended(newest)
        self.head = whole or Head(first_line(newest) - 1, _digest_before(found))
        self._use(newest)
        if torn:
            self.append([{"event": "torn", "time": round(self._wall(), 3), "bytes": torn}])

    def append(self, rows: Sequence[Fields]) -> None:
        """All of them or none."""
        self.open()
        lines, head = [], self.head
        for row in rows:
            line, head = write_line(head, row)
            lines.append(line)
        self._write(b"".join(lines))
        self.head = head

    @property
    def due(self) -> bool:
        """Whether a new file should begin: this one is large, or of another day."""
        return self._size > 0 and (self._size > ROTATE_BYTES or self._day != self._today())

    def rotate(self) -> None:
        """Begin a new file, and remove those that have been kept for long enough; the log says so first."""
        self.close()
        self._begin()
        gone = self._expired()
        if gone:
            end = _end_of(gone[-1])
            row = {"event": "retention", "time": round(self._wall(), 3), "through": end.line, "head": end.digest}
            self.append([row])
            for path in gone:
                path.unlink()
            sync_folder(self.folder)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    # ---------------------------------------------------------------- parts

    def _begin(self) -> None:
        self._use(self.folder / f"{self.head.line + 1:012d}{_SUFFIX}")
        sync_folder(self.folder)

    def _use(self, path: Path) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
        self._file = os.fdopen(fd, "ab", buffering=0)
        self._size = path.stat().st_size
        self._day = int(path.stat().st_mtime // DAY_S) if self._size else self._today()

    def _write(self, data: bytes) -> None:
        file = self._file
        if file is None:
            raise OSError("the audit log is not open")
        try:
            _write_all(file, data)
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), self._size)
            raise
        self._size += len(data)

    def _expired(self) -> list[Path]:
        """The oldest files, whose last line is older than the retention."""
        if self._retention_s is None:
            return []
        gone = []
        for path in files_of(self.folder)[:-1]:
            if self._wall() - path.stat().st_mtime <= self._retention_s:
                break
            gone.append(path)
        return gone

    def _today(self) -> int:
        return int(self._wall() // DAY_S)


def files_of(folder: Path) -> list[Path]:
    """In order. Raises OSError."""
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())


def first_line(path: Path) -> int:
    """The number of the first line in the file, from its name."""
    return int(path.stem)


def lines_of(path: Path) -> Iterator[bytes]:
    """Without their newlines; what comes after the last newline counts as a line, too."""
    with path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n")


def _write_all(file: BinaryIO, data: bytes) -> None:
    """A full disk may take a part first, and say so only at the next try."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _end_of(path: Path) -> Head:
    """The last line of a file that has one. It is not judged here: that is `audit_verify`'s."""
    count, last = 0, b""
    for line in lines_of(path):
        count, last = count + 1, line
    return Head(first_line(path) + count - 1, digest_of(last))


def _mended(path: Path) -> tuple[Head | None, int]:
    """Cut off a last line without its newline: the end (None: no line is left), and how many bytes went."""
    with path.open("r+b") as file:
        data = file.read()
        torn = len(data) - (data.rfind(b"\n") + 1)
        if torn:
            file.truncate(len(data) - torn)
    return (_end_of(path) if len(data) > torn else None), torn


def _digest_before(found: Sequence[Path]) -> str:
    return _end_of(found[-2]).digest if len(found) > 1 else Head().digest
