"""What relay, dispatcher and the watch of installs report, put into the session at the time it is now."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from bridge.effects import Effect
from bridge.fleet import Gone
from bridge.session import Session
from tasks.contract import InstallProgress, WorkerInfo
from tasks.errors import PendraError, SealError
from tasks.events import unpack
from tasks.logs import event

log = logging.getLogger("pendra.bridge")


class Reports:
    """On the event loop, all of it; nothing blocks. `apply` carries out what the session answers."""

    def __init__(self, session: Session, apply: Callable[[list[Effect]], None]) -> None:
        self._session = session
        self._apply = apply
        self.healed_once = asyncio.Event()
        """The replay stream was read to its end, since somebody cleared this."""

    # ---------------------------------------------------------------- from the relay

    def batch(self, data: bytes) -> None:
        try:
            envelopes = unpack(data)
        except SealError as exc:
            event(log, logging.ERROR, "events.unreadable", why=exc.message, size=len(data))
            return
        self._apply(self._session.events(envelopes, time.monotonic()))

    def fleet_news(self, news: WorkerInfo | Gone) -> None:
        self._apply(self._session.fleet_news(news, time.monotonic()))

    def pong(self) -> None:
        self._session.pong(time.monotonic())

    def redis_lost(self) -> None:
        self._session.redis_lost(time.monotonic())

    def redis_back(self, *, data_lost: bool) -> None:
        self._apply(self._session.redis_back(time.monotonic(), data_lost=data_lost))

    def heal_started(self) -> None:
        self._session.heal_started()

    def healed(self, *, full: bool) -> None:
        self._apply(self._session.healed(time.monotonic(), full=full))
        self.healed_once.set()

    # ---------------------------------------------------------------- from the watch of installs

    def install_tasks(self) -> tuple[str, ...]:
        return self._session.install_tasks

    def install_progress(self, task_id: str, progress: InstallProgress) -> None:
        self._apply(self._session.install_progress(task_id, progress, time.monotonic()))

    def install_ended(self, task_id: str, result: dict[str, Any] | None, problem: PendraError | None) -> None:
        self._apply(self._session.install_ended(task_id, result, problem, time.monotonic()))

    # ---------------------------------------------------------------- from the dispatcher

    def blob_stored(self, size: int) -> None:
        self._session.pieces.stored(size)

    def blob_failed(self, job_id: str) -> None:
        self._apply(self._session.pieces.failed(job_id, time.monotonic()))

    def taken(self, job_id: str, attempt: int, worker_id: str, size: int) -> None:
        self._apply(self._session.attempts.taken(job_id, attempt, worker_id, size, time.monotonic()))

    def none_free(self, job_id: str, attempt: int) -> None:
        self._apply(self._session.attempts.none_free(job_id, attempt, time.monotonic()))

    def dispatch_failed(self, job_id: str, attempt: int) -> None:
        self._apply(self._session.attempts.dispatch_failed(job_id, attempt, time.monotonic()))

    def fenced(self, job_id: str, attempt: int) -> None:
        self._apply(self._session.attempts.fenced(job_id, attempt, time.monotonic()))

    def fence_failed(self, job_id: str, attempt: int) -> None:
        self._apply(self._session.attempts.fence_failed(job_id, attempt, time.monotonic()))

    def enqueue_failed(self, job_id: str, attempt: int) -> None:
        self._apply(self._session.attempts.enqueue_failed(job_id, attempt, time.monotonic()))
