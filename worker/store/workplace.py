"""The store as a place several processes work in: locks, words for a disk that fails, what crashes left."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks import file_lock
from worker.store import journal, spans
from worker.store.errors import DiskFullError, ModelInUseError, StoreError
from worker.store.planner import LOCKS, Stage, Target
from worker.store.run import Run

_POLL_S = 0.2


@contextmanager
def writable(store: Path) -> Iterator[None]:
    """Make the store, and say in words why it cannot be written."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as exc:
        if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(f"{store} is full; make room, or set PENDRA_MODELS_DIR to another disk") from None
        raise StoreError(f"{store} cannot be used as models folder: {exc.strerror}", code="store_unusable") from None


@contextmanager
def alone(goal: Target, run: Run) -> Iterator[bool]:
    """The model's lock, which falls when its holder dies. Yields whether somebody else had it first.

    While another holds it, its progress is reported as ours. Raises InstallCancelled.
    """
    with ExitStack() as stack:
        waited = False
        while not took(stack, goal.lock):
            waited = True
            run.check()
            run.progress(Stage.WAITING, *_seen(goal))
            time.sleep(_POLL_S)
        yield waited


@contextmanager
def now_or_never(lock: Path, model_id: str) -> Iterator[None]:
    """The model's lock without waiting. Raises ModelInUseError(`install_running`)."""
    with ExitStack() as stack:
        if not took(stack, lock):
            raise ModelInUseError(
                f"{model_id} is being installed right now; cancel that first", code="install_running"
            )
        yield


def busy(store: Path, filename: str) -> bool:
    """Whether some process works on the model with that file now."""
    with ExitStack() as stack:
        return not took(stack, lock_of(store, filename))


def lock_of(store: Path, filename: str) -> Path:
    return store / LOCKS / f"{filename}.lock"


def sweep(store: Path) -> list[Path]:
    """Remove work folders that no journal explains and nobody works in; what was removed. Blocking."""
    gone = []
    for work in journal.strays(store):
        with ExitStack() as stack:
            if took(stack, lock_of(store, work.name.removesuffix(".d"))) and journal.read(work) is None:
                shutil.rmtree(work, ignore_errors=True)
                gone.append(work)
    return gone


def took(stack: ExitStack, lock: Path) -> bool:
    """Take a lock into the stack, if nobody has it."""
    try:
        stack.enter_context(file_lock.held(lock, 0))
    except TimeoutError:
        return False
    return True


def _seen(goal: Target) -> tuple[int, int | None]:
    """How far the other one is, from its journal."""
    found = journal.read(goal.work)
    if found is None:
        return 0, None
    sizes = [mark.size for mark in found.files]
    have = sum(spans.total(mark.pieces) for mark in found.files)
    return have, None if not sizes or None in sizes else sum(size for size in sizes if size)
