"""Turns the ends of requests into lines of the audit log. Pure but for the clock of the wall.

It hears of every job the bridge took or refused, also of uploads that their client gave up before they
were whole. One that a lost link cut off has no line: the API sends it again as another job.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge.audit_chain import AuditEntry
from bridge.hooks import NoHooks
from bridge.jobs import JobRecord
from tasks.contract import Finished, Usage


@dataclass(slots=True)
class _Seen:
    sha256: str | None = None
    usage: Usage | None = None


class Auditor(NoHooks):
    """`sha_of` (worker id, model): the SHA-256 of the file that the worker runs, None when nobody says."""

    def __init__(
        self,
        put: Callable[[AuditEntry], None],
        sha_of: Callable[[str, str], str | None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._put = put
        self._sha_of = sha_of
        self._wall = wall
        self._seen: dict[str, _Seen] = {}

    def began(self, record: JobRecord, now: float) -> None:  # noqa: ARG002  # as the hook is called
        """Looked up now: at the end the worker may be gone."""
        seen = self._seen.setdefault(record.id, _Seen())
        seen.sha256 = self._sha_of(record.worker_id, record.frame.model) or seen.sha256

    def finished(self, record: JobRecord, end: Finished) -> None:
        self._seen.setdefault(record.id, _Seen()).usage = end.usage

    def ended(self, record: JobRecord, code: str, now: float) -> None:
        seen = self._seen.pop(record.id, None) or _Seen()
        frame = record.frame
        self._put(
            AuditEntry(
                at=self._wall(),
                job_id=record.id,
                tenant=frame.tenant,
                kind=str(frame.kind),
                model=frame.model,
                model_sha256=seen.sha256 or self._sha_of(record.worker_id, frame.model),
                worker_id=record.worker_id,
                outcome=str(record.outcome),
                code=code,
                sealed=record.private,
                attempts=record.attempt + 1 if record.worker_id or record.attempt else 0,
                ms=round(1000 * (now - record.arrived)),
                usage=seen.usage,
                tokens_sent=len(record.tokens),
            )
        )
