"""Fetching a model that is not there: the steps of `planner.next_step`, each written down before it counts.

The caller holds the model's lock. `run` may be called once, and again by another process after any crash.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path

from tasks import atomic_file
from tasks.errors import PendraError
from tasks.logs import event
from worker.store import download, journal, room, sidecar
from worker.store.errors import (
    ChecksumError,
    CorruptModelError,
    DownloadError,
    SourceError,
    StoreError,
)
from worker.store.gguf import read_gguf
from worker.store.journal import FileMark, Standing
from worker.store.partial import Partial, hash_file
from worker.store.planner import Stage, Step, Target, View, needed_bytes, next_step
from worker.store.resolve import resolve
from worker.store.run import Run, Stop, Stopped
from worker.store.sidecar import Part, Sidecar

_LOG = logging.getLogger("pendra.store")


class Fetch:
    """One install that has its lock and finds nothing it could keep."""

    def __init__(self, goal: Target, run: Run, task_id: str | None) -> None:
        self._goal = goal
        self._run = run
        kept = journal.read(goal.work)
        going_on = kept is not None and journal.same(kept, goal.spec)
        base = kept if kept is not None and going_on else journal.begin(goal.spec, task_id)
        if kept is not None and not going_on:
            journal.remove(goal.work)
        self._journal = base.model_copy(update={"standing": Standing.RUNNING, "task_id": task_id or base.task_id})
        self._has_room = self._inspected = False
        self._verified: dict[str, str] = {}
        self._wrong: set[int] = set()  # sources whose file had another hash

    def run(self) -> Sidecar:
        goal, did = self._goal, self._steps()
        journal.write(goal.work, self._journal)
        event(_LOG, logging.INFO, "install.began", model=goal.spec.id, source=goal.origin)
        try:
            while (step := next_step(self._view())) is not Step.PLACE:
                self._run.check()
                did[step]()
            made = self._place()
        except BaseException as exc:
            self._failed(exc)
            raise
        self._run.progress(Stage.DONE, made.size, made.size)
        event(_LOG, logging.INFO, "install.done", model=goal.spec.id, size=made.size, sha256=made.sha256)
        return made

    def _steps(self) -> dict[Step, Callable[[], None]]:
        return {
            Step.RESOLVE: self._resolve,
            Step.PREFLIGHT: self._preflight,
            Step.DOWNLOAD: self._download,
            Step.VERIFY: self._verify,
            Step.INSPECT: self._inspect,
        }

    def _view(self) -> View:
        files = self._journal.files
        return View(
            placing=self._journal.sidecar is not None,
            files=len(files) or None,
            has_room=self._has_room,
            complete=sum(self._whole(mark) for mark in files),
            verified=len(self._verified),
            inspected=self._inspected,
        )

    # --------------------------------------------------------------------- steps

    def _resolve(self) -> None:
        self._run.progress(Stage.RESOLVING, 0, None)
        found = self._run.insist(lambda: resolve(self._goal))
        self._write(revision=found.revision, files=found.files)

    def _preflight(self) -> None:
        goal = self._goal
        needed = sum(
            needed_bytes(goal.source, mark.size, sum(span.have for span in mark.pieces))
            for mark in self._journal.files
        )
        room.claim(goal.work, needed)
        self._has_room = True

    def _download(self) -> None:
        """The first file that is not whole, from the first source that gives it."""
        mark = next(mark for mark in self._journal.files if not self._whole(mark))
        last: DownloadError | None = None
        count = len(self._goal.sources)
        for mirror in ((mark.mirror + step) % count for step in range(count)):
            if mirror in self._wrong:
                continue
            try:
                return self._fetch(mark.name, mirror)
            except DownloadError as exc:
                last = exc
                event(_LOG, logging.WARNING, "install.source_failed", model=self._goal.spec.id, why=exc.message)
        raise last or DownloadError("there is no source left")

    def _fetch(self, name: str, mirror: int) -> None:
        with self._part(name) as part:
            download.fetch(self._goal, mirror, name, self._journal.revision, part, self._files_progress(name))
            self._run.progress(Stage.VERIFYING, 0, part.size)
            digest = part.sha256(self._verifying(part.size))
            part.persist()
        self._compare(name, digest)

    def _verify(self) -> None:
        """Files that an earlier process brought: its hashes are not taken on trust."""
        mark = next(mark for mark in self._journal.files if mark.name not in self._verified)
        digest = hash_file(self._goal.part(mark.name), self._verifying(mark.size))
        self._compare(mark.name, digest)

    def _compare(self, name: str, digest: str) -> None:
        mark = self._mark(name)
        if not mark.sha256 or digest == mark.sha256:
            self._verified[name] = digest
            return
        goal = self._goal
        aside = self._reject(mark)
        self._wrong.add(mark.mirror)
        event(_LOG, logging.WARNING, "install.wrong_hash", model=goal.spec.id, found=digest, mirror=mark.mirror)
        if len(self._wrong) < len(goal.sources):
            return  # the file is no longer whole: the next source is asked for it
        raise ChecksumError(
            f"{goal.spec.id} from {goal.origin} is not the file that was meant: SHA-256 {digest}, "
            f"expected {mark.sha256}; it was put aside as {aside}"
        )

    def _inspect(self) -> None:
        """All files must be readable as GGUF: llama.cpp would find out much later."""
        for mark in self._journal.files:
            try:
                read_gguf(self._goal.part(mark.name))
            except PendraError as exc:
                aside = self._reject(mark)
                words = exc.message.replace(f"{mark.name}.part", mark.name).removesuffix("; install the model again")
                raise CorruptModelError(
                    f"what {self._goal.origin} gave: {words}; it was put aside as {aside}"
                ) from None
        self._inspected = True
        self._write(sidecar=self._made())

    def _place(self) -> Sidecar:
        """Everything is right and on the disk: make it visible. Also goes on where a crash stopped it."""
        made, goal = self._journal.sidecar, self._goal
        if made is None:  # `next_step` says PLACE only after `_inspect` wrote it
            raise StoreError(f"the journal of {goal.spec.id} has no sidecar")
        atomic_file.write(sidecar.path_of(goal.path), sidecar.dump(made), mode=0o644)
        for name in reversed(goal.names):
            with contextlib.suppress(FileNotFoundError):  # an earlier process got that far
                goal.part(name).replace(goal.store / name)
        atomic_file.sync_folder(goal.store)
        if lost := [name for name in goal.names if not (goal.store / name).exists()]:
            journal.remove(goal.work)
            raise StoreError(f"{lost[0]} of {goal.spec.id} has vanished from {goal.store}; install it again")
        journal.remove(goal.work)
        return made

    # --------------------------------------------------------------------- parts

    def _whole(self, mark: FileMark) -> bool:
        pieces = mark.pieces
        path = self._goal.part(mark.name)
        return (
            bool(pieces) and all(span.whole for span in pieces) and path.exists() and path.stat().st_size == mark.size
        )

    def _part(self, name: str) -> Partial:
        return Partial(self._goal.part(name), self._mark(name), self._update)

    def _mark(self, name: str) -> FileMark:
        return next(mark for mark in self._journal.files if mark.name == name)

    def _update(self, mark: FileMark) -> None:
        self._write(files=tuple(mark if one.name == mark.name else one for one in self._journal.files))

    def _write(self, **changes: object) -> None:
        self._journal = self._journal.model_copy(update=changes)
        journal.write(self._goal.work, self._journal)

    def _reject(self, mark: FileMark) -> Path:
        aside = self._goal.quarantine(mark.name)
        aside.parent.mkdir(exist_ok=True)
        self._goal.part(mark.name).replace(aside)
        self._update(FileMark(name=mark.name, sha256=mark.sha256))
        return aside

    def _made(self) -> Sidecar:
        goal, marks = self._goal, self._journal.files
        parts = tuple(
            Part(name=mark.name, sha256=self._verified[mark.name], size=goal.part(mark.name).stat().st_size)
            for mark in marks
        )
        return Sidecar(
            id=goal.spec.id,
            purpose=goal.spec.purpose,
            source=goal.origin,
            revision=self._journal.revision,
            sha256=parts[0].sha256,
            size=parts[0].size,
            licence=goal.spec.licence,
            installed_at=round(time.time(), 3),
            parts=parts if len(parts) > 1 else (),
            lora=sidecar.adapters_of(goal.path),
        )

    def _failed(self, exc: BaseException) -> None:
        """Decide what stays: everything for an agent that ends, the bytes for a later try, nothing on a full disk."""
        if isinstance(exc, Stopped) and exc.why is Stop.LATER:
            return
        full = isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}
        came = any(span.have for mark in self._journal.files for span in mark.pieces)
        gone = full or not came or isinstance(exc, ChecksumError | CorruptModelError | SourceError)
        if gone or (isinstance(exc, Stopped) and exc.why is Stop.DISCARD):
            journal.remove(self._goal.work)
        else:
            paused = isinstance(exc, Stopped | KeyboardInterrupt)
            with contextlib.suppress(OSError):
                self._write(standing=Standing.PAUSED if paused else Standing.FAILED)
        code = exc.code if isinstance(exc, PendraError) else type(exc).__name__
        event(_LOG, logging.WARNING, "install.failed", model=self._goal.spec.id, code=code)

    # ------------------------------------------------------------------ progress

    def _files_progress(self, name: str) -> Run:
        """Of a split model, the bytes of all its files."""
        others = [mark for mark in self._journal.files if mark.name != name]
        if not others:
            return self._run
        before = sum(sum(span.have for span in mark.pieces) for mark in others)
        sizes = [mark.size for mark in others]

        def tell(stage: Stage, done: int, total: int | None) -> None:
            whole = None if total is None or None in sizes else total + sum(size for size in sizes if size)
            self._run.progress(stage, before + done, whole)

        return Run(tell, self._run.stop, self._run.transfer)

    def _verifying(self, total: int | None) -> Callable[[int], None]:
        def tell(done: int) -> None:
            self._run.check()
            self._run.progress(Stage.VERIFYING, done, total)

        return tell
