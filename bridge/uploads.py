"""Jobs whose parts are on their way: gathered, laid down, and taken when whole. Pure: decides on the ledger."""

from __future__ import annotations

from bridge import problems
from bridge.effects import DropBlobs, StoreBlob
from bridge.gathering import Gathering
from bridge.ledger import Ledger
from bridge.protocol import Blob, JobFrame
from tasks import keys
from tasks.blobs import MIB
from tasks.errors import BadRequestError, PendraError

MAX_UNWRITTEN = 128 * MIB
"""Bytes of pieces that Redis has not taken yet."""


class Uploads:
    """The session's; nothing of it blocks."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._gathering = Gathering()
        self._unwritten = 0

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._gathering

    def objection(self, frame: JobFrame) -> PendraError | None:
        """Why no job with parts is taken now."""
        return problems.UPLOADS_FULL if self._misses(frame) and self._gathering.full else None

    def begin(self, frame: JobFrame, now: float) -> bool:
        """Wait for the job's parts. False: it has none, or they are all here."""
        if not self._misses(frame):
            return False
        self._gathering.begin(frame, now)
        return True

    def piece(self, blob: Blob, now: float) -> JobFrame | None:
        """One more piece; the job, when it was the last one. Pieces of jobs nobody waits for are dropped."""
        if blob.job_id not in self._gathering:
            return None
        try:
            data = self._gathering.take(blob, now)
        except BadRequestError as problem:
            self._fail(blob.job_id, problem, now)
            return None
        self._unwritten += len(data)
        self._ledger.effects.append(StoreBlob(blob.job_id, blob.name, blob.index, data))
        if self._unwritten > MAX_UNWRITTEN:
            self._fail(blob.job_id, problems.NO_REDIS, now)
            return None
        return self._gathering.complete(blob.job_id)

    def stored(self, size: int) -> None:
        self._unwritten -= size

    def failed(self, job_id: str, now: float) -> None:
        """Redis did not take a piece: the job cannot run, wherever it is by now."""
        if job_id in self._gathering:
            self._fail(job_id, problems.NO_REDIS, now)
        elif record := self._ledger.jobs.open.get(job_id):
            self._ledger.fail(record, problems.NO_REDIS, now)

    def cancel(self, job_id: str, now: float) -> None:
        """Its client gave it up. It becomes a job that ends at once, so that metrics and the audit log hear of it."""
        frame = self._gathering.drop(job_id)
        if frame is not None:
            self._ledger.cancel(self._ledger.open(frame, now), now)
            self._drop(job_id)

    def unlinked(self) -> None:
        """The rest of what was on its way will not come; the API sends it all again, under another id."""
        for job_id in self._gathering.all():
            self._gathering.drop(job_id)
            self._drop(job_id)

    def tick(self, now: float) -> None:
        for job_id in self._gathering.overdue(now):
            self._fail(job_id, problems.UPLOAD_STALLED, now)

    def end(self, problem: PendraError, now: float) -> None:
        for job_id in self._gathering.all():
            self._fail(job_id, problem, now)

    def _misses(self, frame: JobFrame) -> bool:
        return bool(frame.blobs) and not frame.laid

    def _fail(self, job_id: str, problem: PendraError, now: float) -> None:
        frame = self._gathering.drop(job_id)
        if frame is not None:
            self._ledger.fail(self._ledger.open(frame, now), problem, now)
            self._drop(job_id)

    def _drop(self, job_id: str) -> None:
        self._ledger.effects.append(DropBlobs(job_id, keys.blobs(job_id)))
