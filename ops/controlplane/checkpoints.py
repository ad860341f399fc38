"""Signed heads of the bridges' audit logs, kept where nobody on a bridge's host can take them back."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from bridge.audit_chain import Checkpoint
from bridge.protocol import AuditCheckpoint
from ops.controlplane.db import Database
from tasks.logs import event

log = logging.getLogger("pendra.controlplane")

KEPT = 100_000  # of each log, the newest


class CheckpointLog:
    """Any thread may call."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def keep(self, bridge_id: tuple[str, str], frame: AuditCheckpoint) -> None:
        """Keep what a bridge sent. One that it did not sign, or that contradicts an earlier one, is only logged.

        The first word counts: what says another head for the same line never replaces it.
        """
        sent = Checkpoint.model_validate(frame.model_dump(exclude={"type"}))
        public_key, worker_id = bridge_id
        if sent.public_key != public_key or not sent.signed:
            event(log, logging.ERROR, "audit.bad_checkpoint", worker_id=worker_id, line=sent.line)
            return
        known = self._db.one(
            "SELECT record FROM checkpoints WHERE public_key = ? AND log = ? AND line = ?",
            public_key,
            sent.log,
            sent.line,
        )
        if known is None:
            self._add(sent)
        elif Checkpoint.model_validate_json(known[0]).head != sent.head:
            event(log, logging.CRITICAL, "audit.rewritten", worker_id=worker_id, line=sent.line)

    def all(self, log_name: str | None = None) -> Sequence[Checkpoint]:
        """Of one log or of all, in order."""
        rows = self._db.all(
            "SELECT record FROM checkpoints WHERE ? IS NULL OR log = ? ORDER BY log, line", log_name, log_name
        )
        return [Checkpoint.model_validate_json(row[0]) for row in rows]

    def newest(self, count: int) -> Sequence[Checkpoint]:
        """Of all logs, what came last first."""
        rows = self._db.all("SELECT record FROM checkpoints ORDER BY received DESC, line DESC LIMIT ?", count)
        return [Checkpoint.model_validate_json(row[0]) for row in rows]

    def _add(self, sent: Checkpoint) -> None:
        self._db.do(
            "INSERT INTO checkpoints (public_key, log, line, record, received) VALUES (?, ?, ?, ?, ?)",
            sent.public_key,
            sent.log,
            sent.line,
            sent.model_dump_json(),
            time.time(),
        )
        self._db.do(
            "DELETE FROM checkpoints WHERE public_key = ? AND log = ? AND line NOT IN (SELECT line FROM checkpoints "
            "WHERE public_key = ? AND log = ? ORDER BY line DESC LIMIT ?)",
            sent.public_key,
            sent.log,
            sent.public_key,
            sent.log,
            KEPT,
        )
