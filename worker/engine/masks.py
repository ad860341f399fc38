"""Prepares the masks of constrained replies on a thread of its own, while the engine thread is inside a decode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from worker.engine.api import TokenMasker
from worker.engine.sequence import Sequence


class Masks:
    """Owned by the engine thread. The thread beside it starts with the first constrained reply."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    @contextmanager
    def ahead(self, sequences: Iterable[Sequence]) -> Iterator[None]:
        """Inside, masks are prepared; nobody else may touch the maskers. They are ready when it is left."""
        maskers = [seq.masker for seq in sequences if seq.masker is not None]
        if not maskers:
            yield
            return
        work = self._start(maskers)
        try:
            yield
        finally:
            work.result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def _start(self, maskers: list[TokenMasker]) -> Future[None]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="pendra-masks")
        return self._pool.submit(_prepare, maskers)


def _prepare(maskers: list[TokenMasker]) -> None:
    for masker in maskers:
        masker.prepare()
