"""Installs to the installer agents of hosts: tasks through Celery, and how they stand, written down in Redis."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Protocol

import redis.asyncio as aredis

from bridge import problems
from bridge.calls import Calls
from bridge.celery_sender import CelerySender
from bridge.effects import DropInstall, NoteInstall, OnAgents, StartTask, StopTask
from bridge.registry import Registry
from tasks import keys
from tasks.errors import PendraError
from tasks.logs import event

log = logging.getLogger("pendra.bridge.dispatch")


class InstallResults(Protocol):
    """Where a task that could not be sent is reported; called on the event loop."""

    def install_ended(self, task_id: str, result: dict[str, Any] | None, problem: PendraError | None) -> None: ...


class AgentTasks:
    """The dispatcher is its only user. `do` never blocks and never raises."""

    def __init__(
        self, client: aredis.Redis, calls: Calls, celery: CelerySender, registry: Registry, results: InstallResults
    ) -> None:
        self._client = client
        self._calls = calls
        self._celery = celery
        self._registry = registry
        self._results = results

    def do(self, effect: OnAgents) -> None:
        calls, registry = self._calls, self._registry
        match effect:
            case StartTask(task_id=task_id):
                calls.in_order(task_id, partial(self._start, effect))
            case StopTask(task_id=task_id):
                calls.insist_in_order(task_id, partial(self._stop, effect), "install.cancel_failed")
            case NoteInstall(entry=entry):
                note = partial(registry.note_install, entry)
                calls.insist_in_order(f"install:{entry.id}", note, "install.registry_failed")
            case DropInstall(request_id=request_id):
                drop = partial(registry.drop_install, request_id)
                calls.insist_in_order(f"install:{request_id}", drop, "install.registry_failed")

    async def _start(self, effect: StartTask) -> None:
        try:
            await self._celery.start(effect)
        except Exception as exc:  # noqa: BLE001  # whatever the broker's library raises
            event(log, logging.WARNING, "install.send_failed", task_id=effect.task_id, error=type(exc).__name__)
            self._results.install_ended(effect.task_id, None, problems.NO_REDIS)

    async def _stop(self, effect: StopTask) -> None:
        """An agent that is away finds the note when it begins with the task; one that is there is told."""
        said = "discard" if effect.discard else "keep"
        await self._client.set(keys.install_stop(effect.task_id), said, ex=keys.INSTALL_TTL_S)
        await self._celery.stop(effect)
