"""A file on its way into the store: written and hashed in one pass, and continued where an earlier try stopped.

Beside the part lies its journal, which says what it is a part of; a part with another journal is thrown away.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from tasks.contract import Frozen

BLOCK = 1 << 20
Tick = Callable[[int], None]
"""Called with how many bytes are there now."""


class Journal(Frozen):
    """What a part is a part of. `etag` is the server's name for that very version of the file, when it has one."""

    source: str
    sha256: str = ""
    etag: str = ""


class Partial:
    """The part at `path`, opened within `with`. One thread; the install's lock keeps other processes away."""

    def __init__(self, path: Path, source: str, sha256: str) -> None:
        self.path = path
        self._journal_path = path.with_name(path.name + ".json")
        self._wanted = Journal(source=source, sha256=sha256)
        self._digest = hashlib.sha256()
        self.size = 0
        self.etag = ""

    def __enter__(self) -> Self:
        kept = self._kept()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if kept is None:
            self.restart()
        else:
            self.etag = kept.etag
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._fd)

    @property
    def sha256(self) -> str:
        """Of what has been written so far (after `load`, of what was there before, too)."""
        return self._digest.hexdigest()

    @property
    def kept_bytes(self) -> int:
        return os.fstat(self._fd).st_size

    def load(self, tick: Tick) -> None:
        """Hash what an earlier try left, so that writing can go on after it."""
        self._digest, self.size = hashlib.sha256(), 0
        os.lseek(self._fd, 0, os.SEEK_SET)
        while block := os.read(self._fd, BLOCK):
            self._count(block)
            tick(self.size)

    def restart(self, etag: str = "") -> None:
        """Throw away what is there, and write down what comes now."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._digest, self.size, self.etag = hashlib.sha256(), 0, etag
        journal = self._wanted.model_copy(update={"etag": etag})
        self._journal_path.write_text(journal.model_dump_json(), encoding="utf-8")

    def write(self, block: bytes) -> None:
        """Append. Raises OSError when the disk is full."""
        view = memoryview(block)
        while view:
            view = view[os.write(self._fd, view) :]
        self._count(block)

    def sync(self) -> None:
        os.fsync(self._fd)

    def discard(self) -> None:
        """Remove the journal; the part itself has been moved, or is removed here."""
        self.path.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)

    def _count(self, block: bytes) -> None:
        self._digest.update(block)
        self.size += len(block)

    def _kept(self) -> Journal | None:
        """The journal of a part that can be continued."""
        try:
            journal = Journal.model_validate_json(self._journal_path.read_bytes())
        except (OSError, ValidationError):
            return None
        same = (journal.source, journal.sha256) == (self._wanted.source, self._wanted.sha256)
        return journal if same and self.path.exists() else None


def hash_file(path: Path, tick: Tick) -> str:
    """SHA-256 of a file, read once in blocks. Raises OSError."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            tick(done)
    return digest.hexdigest()
