"""What the API is told about a job, as ready frames.

Chunks are the hot path and are written by hand (a third of the cost of building and dumping the models); a test
holds them equal to what the models of `bridge.protocol` would say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from json.encoder import encode_basestring

from bridge.jobs import JobRecord
from bridge.outbox import Sent
from bridge.protocol import (
    MAX_FRAME_BYTES,
    Accepted,
    ErrorFrame,
    ProgressFrame,
    ResultFrame,
    UsageFrame,
    encode,
)
from tasks.contract import Claimed, Finished, Progress
from tasks.errors import PendraError, WorkerError, status_of

CHUNK_FRAME_CHARS = MAX_FRAME_BYTES // 4  # a character is at most 4 bytes of UTF-8


def chunk_event(job_id: str, seq: int, data: str) -> str:
    """One event of a chunk frame, as JSON."""
    return f'{{"job_id":{encode_basestring(job_id)},"seq":{seq},"data":{encode_basestring(data)}}}'


def chunk_frame(events: Iterable[str]) -> str:
    return '{"type":"chunk","events":[' + ",".join(events) + "]}"


def chunk_frames(events: Sequence[str]) -> Iterator[str]:
    """The events in as few frames as the frame limit allows; usually one."""
    start = size = 0
    for i, text in enumerate(events):
        size += len(text) + 1
        if size > CHUNK_FRAME_CHARS and i > start:
            yield chunk_frame(events[start:i])
            start, size = i, len(text)
    if start < len(events):
        yield chunk_frame(events[start:])


def replayed(items: Iterable[Sent]) -> Iterator[str]:
    """Frames that say these items again, in order."""
    for chunk, run in groupby(items, key=lambda item: item[2]):
        texts = [text for _, text, _ in run]
        yield from chunk_frames(texts) if chunk else texts


def accepted(record: JobRecord, position: int) -> str:
    return encode(Accepted(job_id=record.id, position=position))


def claimed(event: Claimed) -> str:
    return encode(
        ProgressFrame(
            job_id=event.job_id,
            seq=event.seq,
            stage="claimed",
            worker_id=event.worker_id,
            worker_name=event.worker_name,
        )
    )


def progress(event: Progress) -> str:
    return encode(ProgressFrame(job_id=event.job_id, seq=event.seq, stage=event.stage, fraction=event.fraction))


def usage(record: JobRecord, event: Finished) -> str:
    frame = UsageFrame(job_id=record.id, model=record.frame.model, worker_id=record.worker_id, usage=event.usage)
    return encode(frame)


def result(record: JobRecord, event: Finished, worker_version: str) -> str:
    """Raises WorkerError when the reply is too large for a frame."""
    waited = None if record.dispatched is None else 1000 * (record.dispatched - record.arrived)
    text = encode(
        ResultFrame(
            job_id=record.id,
            seq=event.seq,
            worker_id=record.worker_id,
            worker_name=record.worker_name,
            worker_version=worker_version,
            data=event.data,
            blob=event.blob,
            timing=event.timing,
            queue_wait_ms=waited,
            notice=event.notice,
        )
    )
    if len(text) > MAX_FRAME_BYTES // 4 and len(text.encode()) > MAX_FRAME_BYTES:
        raise WorkerError(f"the reply is larger than a frame of {MAX_FRAME_BYTES} bytes", code="reply_too_large")
    return text


def error(job_id: str, seq: int, problem: PendraError, worker: tuple[str, str] = ("", "")) -> str:
    """`worker` is (id, name) of the one that had the job, if any."""
    worker_id, worker_name = worker
    return encode(
        ErrorFrame(
            job_id=job_id,
            seq=seq,
            code=problem.code,
            message=problem.message,
            status=status_of(problem.code),
            param=problem.param,
            retry_after=problem.retry_after,
            position=problem.position,
            worker_id=worker_id or None,
            worker_name=worker_name or None,
        )
    )
