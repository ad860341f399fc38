"""Metering: who used how many tokens of which model on which worker. Counts only, never text."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import deque
from dataclasses import astuple, dataclass

from ops.controlplane.db import Database
from tasks.contract import Usage
from tasks.logs import event

log = logging.getLogger("pendra.controlplane")

KEPT_ROWS = 100_000
_MOST_TOKENS = 2**32  # of one request: more is a bridge's error, and sums must fit the database


@dataclass(frozen=True, slots=True)
class UsageRow:
    at: float
    request_id: str
    key_id: str
    kind: str
    model: str
    worker_id: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class Total:
    """Sums over one key and model."""

    key_id: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


class UsageLog:
    """`add` on the event loop, `flush` on any one thread at a time; rows wait in memory in between."""

    def __init__(self, db: Database, kept_rows: int = KEPT_ROWS) -> None:
        self._db = db
        self._rows: deque[UsageRow] = deque(maxlen=kept_rows)

    def add(self, *, request_id: str, key_id: str, kind: str, model: str, worker_id: str, usage: Usage) -> None:
        self._rows.append(
            UsageRow(
                time.time(),
                request_id,
                key_id,
                kind,
                model,
                worker_id,
                _count(usage.prompt_tokens),
                _count(usage.completion_tokens),
                _count(usage.cached_tokens),
                _count(usage.reasoning_tokens),
            )
        )

    @property
    def pending(self) -> int:
        return len(self._rows)

    def flush(self) -> None:
        """Write what waits (blocking). What cannot be written waits on, up to the limit, oldest dropped first."""
        batch = [self._rows.popleft() for _ in range(len(self._rows))]
        if not batch:
            return
        try:
            self._db.do_many(
                "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [astuple(row) for row in batch]
            )
        except sqlite3.Error as exc:
            event(log, logging.ERROR, "usage.unwritten", rows=len(batch), error=type(exc).__name__)
            self._rows.extendleft(reversed(batch))

    def totals(self) -> list[Total]:
        rows = self._db.all(
            "SELECT key_id, model, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens) FROM usage "
            "GROUP BY key_id, model ORDER BY key_id, model"
        )
        return [Total(*row) for row in rows]


def _count(said: int) -> int:
    return min(max(said, 0), _MOST_TOKENS)
