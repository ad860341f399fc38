"""A file on its way into the store: written in one or several spans, and hashed as far as it comes in order."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.store import spans
from worker.store.journal import FileMark
from worker.store.spans import Span

BLOCK = 1 << 20
Tick = Callable[[int], None]
"""Called with how many bytes are done."""


class Closed(Exception):  # noqa: N818  # not an error: a straggler's thread learns that it is over
    """The part is closed: what a late thread brings is not written any more."""


class Partial:
    """The part at `path`, opened within `with`. `save` keeps its mark in the journal.

    `write` from any thread, one thread a span; everything else from the thread that opened it. The install's lock
    keeps other processes away. Raises OSError when the disk does not take it.
    """

    def __init__(self, path: Path, mark: FileMark, save: Callable[[FileMark], None]) -> None:
        self.path = path
        self._mark = mark
        self._save = save
        self._spans = list(mark.pieces)
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        self._hashed = 0
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if os.fstat(self._fd).st_size < max((span.at for span in self._spans if span.have), default=0):
            self.restart()  # cut off behind our back
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
        os.close(fd)

    # ------------------------------------------------------------------- looking

    @property
    def mark(self) -> FileMark:
        with self._lock:
            pieces = tuple((span.start, span.end, span.have) for span in self._spans)
        return self._mark.model_copy(update={"spans": pieces})

    @property
    def spans(self) -> tuple[Span, ...]:
        with self._lock:
            return tuple(self._spans)

    @property
    def have(self) -> int:
        return spans.total(self.spans)

    @property
    def size(self) -> int | None:
        """Of the whole file, once that is known."""
        return self._mark.size

    @property
    def complete(self) -> bool:
        found = self.spans
        return bool(found) and all(span.whole for span in found)

    # ------------------------------------------------------------------- changing

    def restart(self) -> None:
        """Throw away what is there."""
        with self._lock:
            self._spans = []
            self._digest, self._hashed = hashlib.sha256(), 0
            os.ftruncate(self._fd, 0)
        self._mark = self._mark.model_copy(update={"validator": ""})
        self.persist()

    def begin(self, pieces: tuple[Span, ...], *, size: int | None, validator: str = "", mirror: int = 0) -> None:
        """Start from nothing, and write down what comes now."""
        self.restart()
        with self._lock:
            self._spans = list(pieces)
        self._mark = self._mark.model_copy(update={"size": size, "validator": validator, "mirror": mirror})
        self.persist()

    def relabel(self, *, validator: str, mirror: int) -> None:
        """What is there goes on from another source of the same file."""
        self._mark = self._mark.model_copy(update={"validator": validator, "mirror": mirror})

    def write(self, index: int, block: bytes) -> None:
        """Append to a span; what is beyond its end is cut. Raises Closed."""
        with self._lock:
            if self._fd < 0:
                raise Closed
            span = self._spans[index]
            if span.end is not None:
                block = block[: span.end - span.at]
            _pwrite(self._fd, block, span.at)
            if self._hashed == span.at:
                self._digest.update(block)
                self._hashed += len(block)
            self._spans[index] = replace(span, have=span.have + len(block))

    def rewind(self, index: int) -> None:
        """Begin a span again."""
        with self._lock:
            self._spans[index] = replace(self._spans[index], have=0)
            if self._hashed > self._spans[index].start:
                self._digest, self._hashed = hashlib.sha256(), 0

    def finish(self, index: int) -> None:
        """A span of unknown length has reached its end."""
        with self._lock:
            span = self._spans[index]
            self._spans[index] = replace(span, end=span.at)
            if self._mark.size is None:
                self._mark = self._mark.model_copy(update={"size": span.at})

    def persist(self) -> None:
        """Put what is there on the disk, then into the journal: never the other way round."""
        mark = self.mark
        os.fsync(self._fd)
        self._save(mark)

    def sha256(self, tick: Tick) -> str:
        """Of the whole file; what was not hashed while it came is read again."""
        while block := os.pread(self._fd, BLOCK, self._hashed):
            self._digest.update(block)
            self._hashed += len(block)
            tick(self._hashed)
        return self._digest.hexdigest()


def hash_file(path: Path, tick: Tick) -> str:
    """SHA-256 of a file, read once in blocks. Raises OSError."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            tick(done)
    return digest.hexdigest()


def _pwrite(fd: int, block: bytes, at: int) -> None:
    view = memoryview(block)
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done
