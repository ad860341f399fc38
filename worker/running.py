"""The jobs that run in this process now, and how to stop one. Thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Callable

from worker.backends.base import CancelToken

JobKey = tuple[str, int]


class Running:
    """From before a job is claimed (so that no cancel falls between) until its last event is out."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called when a job came or went; it must not block."""
        self._changed = changed
        self._lock = threading.Lock()
        self._tokens: dict[JobKey, CancelToken] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def enter(self, job_id: str, attempt: int) -> CancelToken | None:
        """The job's cancel token; None when this very attempt runs here already."""
        with self._lock:
            if (job_id, attempt) in self._tokens:
                return None
            token = self._tokens[job_id, attempt] = CancelToken()
        self._changed()
        return token

    def leave(self, job_id: str, attempt: int) -> None:
        with self._lock:
            self._tokens.pop((job_id, attempt), None)
        self._changed()

    def keys(self) -> frozenset[JobKey]:
        with self._lock:
            return frozenset(self._tokens)

    def cancel_all(self) -> int:
        """Stop everything that runs here; returns how many that were."""
        with self._lock:
            tokens = list(self._tokens.values())
        for token in tokens:
            token.cancel()
        return len(tokens)

    def cancel(self, job_id: str, attempt: int) -> bool:
        """Stop the job's attempts up to and including `attempt`. False when none runs here."""
        with self._lock:
            hit = [token for (job, tried), token in self._tokens.items() if job == job_id and tried <= attempt]
        for token in hit:
            token.cancel()
        return bool(hit)
