"""A job as its worker gets it: what the API asked for, and where the attempt goes on. Pure."""

from __future__ import annotations

from bridge.jobs import JobRecord
from tasks.contract import Job, Resume


def payload_of(record: JobRecord, bridge_id: str) -> Job:
    """Of the record's attempt; `bridge_id` is where its events go."""
    frame = record.frame
    return Job(
        job_id=frame.job_id,
        attempt=record.attempt,
        kind=frame.kind,
        model=frame.model,
        stream=frame.stream,
        body=frame.body,
        created=frame.created,
        bridge_id=bridge_id,
        deadline=frame.deadline,
        labels=frame.labels,
        blobs=frame.laid,
        traceparent=record.trace,
        first_seq=record.next_seq,
        resume=_resume(record) if record.streamed else None,
        private=record.private,
    )


def _resume(record: JobRecord) -> Resume:
    return Resume(token_ids=tuple(record.tokens), kid=record.kid, steps=tuple(record.steps))
