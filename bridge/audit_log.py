"""The audit log's writer: a thread of its own, so that no token ever waits for a disk.

A line is on the disk about FLUSH_S after a request's end, as long as the disk takes it. When it does not (full,
gone), lines wait in memory and are tried again every second; `failing` is true meanwhile, and unless the log is only
kept as well as possible the bridge takes no new requests. Lines that no longer fit into memory are counted, and the
log says how many.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from bridge.audit_chain import AuditEntry, Checkpoint, sign
from bridge.audit_files import AuditFiles, Fields
from bridge.identity import Identity
from tasks.file_lock import held
from tasks.logs import event

log = logging.getLogger("pendra.bridge.audit")

FLUSH_S = 0.1
RETRY_S = 1.0
CHECKPOINT_S = 60.0
LOCK_S = 5.0
MAX_WAITING = 100_000
CHECKPOINTS = "checkpoints.txt"


class AuditLog:
    """`put` and the properties: any thread. `told` hears of each checkpoint, on the writer's thread.

    `copy`: a second file for checkpoints, best on another disk.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        *,
        retention_s: float | None = None,
        copy: Path | None = None,
        told: Callable[[Checkpoint], None] = lambda _: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = folder.name
        self._files = AuditFiles(folder, retention_s, wall=wall)
        self._identity = identity
        self._copies = [path for path in (folder / CHECKPOINTS, copy) if path]
        self._told = told
        self._wall = wall
        self._waiting: deque[AuditEntry] = deque()
        self._lost = 0
        self._failing = False
        self._signed_line = -1
        self._signed_at = 0.0
        self._newest: Checkpoint | None = None
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    @property
    def failing(self) -> bool:
        """Lines cannot be written at the moment."""
        return self._failing

    @property
    def newest(self) -> Checkpoint | None:
        return self._newest

    def start(self) -> None:
        self._thread.start()

    def put(self, entry: AuditEntry) -> None:
        """Never blocks, never raises."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(entry)
        self._wake.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, and sign the end."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._waiting:
            event(log, logging.CRITICAL, "audit.lost", lines=len(self._waiting))

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with held(self._files.folder / ".lock", LOCK_S):  # two writers would tie two ends to one chain
                    self._keep()
            except (OSError, TimeoutError) as exc:
                self._fails(exc)
                self._stop.wait(RETRY_S)

    def _keep(self) -> None:
        """Until `close`. Raises OSError when the folder cannot be used at all."""
        self._files.open()
        self._works()
        try:
            while not self._stop.is_set():
                self._wake.wait(RETRY_S)
                self._wake.clear()
                self._stop.wait(FLUSH_S)  # what ends together is written together
                self._step()
            self._step(last=True)
        finally:
            self._files.close()

    def _step(self, *, last: bool = False) -> None:
        try:
            self._flush()
            if self._files.due:
                self._sign()
                self._files.rotate()
            if last or self._wall() - self._signed_at >= CHECKPOINT_S:
                self._sign()
        except OSError as exc:
            self._fails(exc)
            self._stop.wait(RETRY_S)

    def _flush(self) -> None:
        count, lost = len(self._waiting), self._lost
        if not count and not lost and not self._failing:
            return
        rows: list[Fields] = [entry.fields() for entry in list(self._waiting)[:count]]
        if lost:
            rows.insert(0, {"event": "lost", "time": round(self._wall(), 3), "lines": lost})
        if self._failing:
            rows.append({"event": "resumed", "time": round(self._wall(), 3)})  # also shows that the disk takes lines
        self._files.append(rows)
        for _ in range(count):
            self._waiting.popleft()
        self._lost -= lost
        self._works()

    def _sign(self) -> None:
        """A checkpoint, if there are lines that none covers."""
        head = self._files.head
        if head.line <= self._signed_line:
            return
        made = sign(self._identity, self.name, head, self._wall())
        self._newest, self._signed_line, self._signed_at = made, head.line, self._wall()
        for path in self._copies:
            with contextlib.suppress(OSError):  # the API has it, too
                _append(path, made.model_dump_json())
        self._told(made)

    def _fails(self, exc: Exception) -> None:
        if not self._failing:
            event(log, logging.CRITICAL, "audit.unwritable", folder=str(self._files.folder), error=_words(exc))
        self._failing = True

    def _works(self) -> None:
        if self._failing:
            event(log, logging.WARNING, "audit.writable_again", folder=str(self._files.folder))
        self._failing = False


def _append(path: Path, line: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(fd, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def _words(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__
