"""Binary parts of jobs on their way in: pieces come as `blob` frames and are passed on; the job waits for all.

Pure. A part's pieces come in order, its last one says so; the parts of a job may be interleaved.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from bridge.protocol import MAX_BLOB_BYTES, Blob, JobFrame
from tasks.blobs import MAX_REQUEST_BYTES, MIB
from tasks.contract import BlobRef
from tasks.errors import BadRequestError

SILENCE_S = 30.0  # between two pieces
MAX_GATHERED = 64
MAX_PIECES = 4096


@dataclass(slots=True)
class _Part:
    size: int = 0
    pieces: int = 0
    done: bool = False


@dataclass(slots=True)
class _Gathered:
    frame: JobFrame
    heard: float
    parts: dict[str, _Part] = field(default_factory=dict)


class Gathering:
    """The jobs whose parts are not all here yet. Times are monotonic seconds."""

    def __init__(self, limit_bytes: int = MAX_REQUEST_BYTES) -> None:
        self._limit = limit_bytes
        self._jobs: dict[str, _Gathered] = {}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    @property
    def full(self) -> bool:
        return len(self._jobs) >= MAX_GATHERED

    def begin(self, frame: JobFrame, now: float) -> None:
        self._jobs[frame.job_id] = _Gathered(frame, now, {name: _Part() for name in frame.blobs})

    def take(self, blob: Blob, now: float) -> bytes:
        """The bytes of a piece of a job that is gathered. Raises BadRequestError(`bad_blob`, `request_too_large`)."""
        job = self._jobs[blob.job_id]
        data = _decoded(blob)
        part = job.parts.get(blob.name)
        if part is None or part.done or blob.index != part.pieces or part.pieces >= MAX_PIECES:
            raise _bad(f"piece {blob.index} of the part '{blob.name[:32]}' is not the one that was expected")
        part.size, part.pieces, part.done = part.size + len(data), part.pieces + 1, blob.last
        if sum(one.size for one in job.parts.values()) > self._limit:
            raise BadRequestError(
                f"the request's parts are larger than {self._limit // MIB} MiB together", code="request_too_large"
            )
        job.heard = now
        return data

    def complete(self, job_id: str) -> JobFrame | None:
        """The job with the places of its parts, once they are all here; it is gathered no more then."""
        job = self._jobs[job_id]
        if not all(part.done for part in job.parts.values()):
            return None
        del self._jobs[job_id]
        refs = tuple(BlobRef(name=name, size=part.size, pieces=part.pieces) for name, part in job.parts.items())
        return job.frame.model_copy(update={"laid": refs})

    def drop(self, job_id: str) -> JobFrame | None:
        job = self._jobs.pop(job_id, None)
        return job.frame if job else None

    def overdue(self, now: float) -> list[str]:
        return [job_id for job_id, job in self._jobs.items() if now - job.heard > SILENCE_S]

    def all(self) -> list[str]:
        return list(self._jobs)


def _decoded(blob: Blob) -> bytes:
    try:
        data = base64.b64decode(blob.data, validate=True)
    except ValueError:
        raise _bad(f"piece {blob.index} of the part '{blob.name[:32]}' is not base64") from None
    if len(data) > MAX_BLOB_BYTES:
        raise _bad(f"piece {blob.index} of the part '{blob.name[:32]}' is larger than {MAX_BLOB_BYTES} bytes")
    return data


def _bad(words: str) -> BadRequestError:
    return BadRequestError(words, code="bad_blob")
