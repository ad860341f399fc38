"""The audit log of a running bridge: opened when the jobs are ours, its checkpoints sent, its failures heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from bridge import problems
from bridge.audit_chain import Checkpoint
from bridge.audit_files import DAY_S
from bridge.audit_log import AuditLog
from bridge.auditor import Auditor
from bridge.identity import Identity
from bridge.protocol import AuditCheckpoint, encode
from tasks.errors import PendraError
from tasks.settings import Settings


class Auditing:
    """On the event loop, all of it. Does nothing where the log is off. `send` takes a frame for the API."""

    def __init__(self, settings: Settings, identity: Identity, send: Callable[[str], None]) -> None:
        self._required = settings.audit == "required"
        self._send = send
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log = _log_of(settings, identity, self._made)

    @property
    def failing(self) -> bool:
        """It is on and cannot be written."""
        return self._log is not None and self._log.failing

    def veto(self) -> PendraError | None:
        """Why no job may be taken now: nobody would write it down."""
        return problems.NO_AUDIT if self._required and self.failing else None

    def auditor(self, sha256_of: Callable[[str, str], str | None]) -> Auditor | None:
        """The hook that writes down what becomes of jobs."""
        return Auditor(self._log.put, sha256_of) if self._log else None

    def open(self) -> None:
        """Not before the jobs are ours: one that only stands by would keep the log from the one that writes it."""
        self._loop = asyncio.get_running_loop()
        if self._log:
            self._log.start()

    def tell_newest(self) -> None:
        """The API may have missed the last checkpoint."""
        if self._log and self._log.newest:
            self._tell(self._log.newest)

    async def close(self) -> None:
        """Write what is left. Idempotent."""
        if self._log:
            await asyncio.to_thread(self._log.close)

    def _made(self, checkpoint: Checkpoint) -> None:
        """On the audit log's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is over: the next start signs again
            if self._loop:
                self._loop.call_soon_threadsafe(self._tell, checkpoint)

    def _tell(self, checkpoint: Checkpoint) -> None:
        self._send(encode(AuditCheckpoint.model_validate(checkpoint.model_dump())))


def _log_of(settings: Settings, identity: Identity, told: Callable[[Checkpoint], None]) -> AuditLog | None:
    """This bridge's log, not started yet; None when it is off."""
    if settings.audit == "off":
        return None
    days = settings.audit_retention_days
    return AuditLog(
        settings.audit_dir / settings.worker_id,
        identity,
        retention_s=None if days is None else days * DAY_S,
        copy=settings.audit_checkpoints,
        told=told,
    )
