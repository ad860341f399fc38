"""The states of install tasks, read from Celery's result backend for as long as one is of interest."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any, Protocol

import redis
import redis.asyncio as aredis
from pydantic import ValidationError
from pydantic_core import from_json

from tasks.celery_config import PROGRESS
from tasks.contract import InstallProgress
from tasks.errors import JobCancelledError, PendraError
from tasks.logs import event

log = logging.getLogger("pendra.bridge")

EVERY_S = 0.5
_META = "celery-task-meta-"  # celery.backends.base.KeyValueStoreBackend.task_keyprefix
_CODE = re.compile(r"\[([a-z_]+)\] (.*)", re.DOTALL)


class News(Protocol):
    """Called on the event loop."""

    def install_tasks(self) -> tuple[str, ...]: ...
    def install_progress(self, task_id: str, progress: InstallProgress) -> None: ...
    def install_ended(self, task_id: str, result: dict[str, Any] | None, problem: PendraError | None) -> None: ...


class InstallWatch:
    """`run` until cancelled. Redis may come and go: the states stay for a day."""

    def __init__(self, client: aredis.Redis, news: News, every_s: float = EVERY_S) -> None:
        self._client = client
        self._news = news
        self._every_s = every_s

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.look()
            except (redis.RedisError, OSError) as exc:
                event(log, logging.DEBUG, "install.unseen", error=type(exc).__name__)

    async def look(self) -> None:
        """Tell what became of the tasks. Raises redis.RedisError."""
        tasks = self._news.install_tasks()
        if not tasks:
            return
        for task_id, text in zip(tasks, await self._client.mget([_META + one for one in tasks]), strict=True):
            if text is not None:
                self._tell(task_id, _object(text))

    def _tell(self, task_id: str, meta: dict[str, Any]) -> None:
        status, result = meta.get("status"), meta.get("result")
        if status == PROGRESS:
            try:
                self._news.install_progress(task_id, InstallProgress.model_validate(result))
            except ValidationError:  # of a newer agent
                event(log, logging.WARNING, "install.unreadable", task_id=task_id)
        elif status == "SUCCESS":
            self._news.install_ended(task_id, result if isinstance(result, dict) else {}, None)
        elif status in {"FAILURE", "REVOKED"}:
            self._news.install_ended(task_id, None, problem_of(status, result))


def _object(text: bytes | str) -> dict[str, Any]:
    """Celery's record of a task; empty when it is none: anybody may write to a result backend."""
    try:
        meta = from_json(text)
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}


def problem_of(status: str, result: Any) -> PendraError:
    """What a failed task says, as an error of ours. Pure."""
    if status == "REVOKED":
        return JobCancelledError("the install was cancelled before it began")
    said = result.get("exc_message", "") if isinstance(result, dict) else ""
    words = said[0] if isinstance(said, list) and said else said
    found = _CODE.fullmatch(str(words))
    if found is None:
        return PendraError("the installer agent failed; its log says where")
    return PendraError(found[2], code=found[1])
