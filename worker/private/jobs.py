"""From a private job as it came to the job inside it, and the reply that seals what is said about it."""

from __future__ import annotations

from typing import cast

import redis

from tasks import keys
from tasks.contract import Job, JobKind, Resume
from tasks.errors import BadRequestError, PrivateReplyError, UnavailableError
from tasks.private import ENVELOPE, parse_envelope
from worker.private.envelope import Opened, open_envelope
from worker.private.frames import Delivered, Frames, Steps
from worker.private.keys import Keyring
from worker.private.reply import TERMINATOR, PrivateReply
from worker.reply import JobReply

_PRIVATE_KINDS = frozenset(JobKind) - {JobKind.COMPLETION, JobKind.SPEECH}
AUDIO = "file"
"""The part of a job that a sealed binary becomes: what a plain upload's field is called."""


class PrivateJobs:
    """Any thread."""

    def __init__(self, client: redis.Redis, keyring: Keyring) -> None:
        self._client = client
        self._keyring = keyring

    def open(self, job: Job, reply: JobReply) -> tuple[Job, PrivateReply]:
        """Blocks for a round trip.

        Raises BadRequestError (`bad_envelope`, `envelope_not_opened`, `unsupported_endpoint`), UnavailableError
        (`no_private_inference_worker`, `redis_unavailable`), PrivateReplyError (`private_replayed`,
        `private_reply_lost`).
        """
        if job.kind not in _PRIVATE_KINDS:
            raise BadRequestError("private inference does not offer this endpoint", code="unsupported_endpoint")
        resume = job.resume or Resume()
        opened = open_envelope(
            parse_envelope(job.body.get(ENVELOPE)),
            self._keyring,
            model=job.model,
            stream=job.stream,
            task_type=job.kind.value,
            kid=resume.kid,
        )
        steps = Steps(opened.resume_key, job.job_id)
        delivered = steps.replay(resume.steps)
        self._check_turn(job, opened, delivered)
        terminated = bool(opened.body.pop(TERMINATOR, 0))
        inner = _inner(job, opened, delivered)
        frames = Frames(opened.kid, opened.response_key, steps, delivered)
        reply.sealed_with(opened.reply_id, delivered.frames)
        return inner, PrivateReply(reply, inner, frames, terminated=terminated, declared=delivered.frames > 0)

    def _check_turn(self, job: Job, opened: Opened, delivered: Delivered) -> None:
        """Whether the next frame to be sealed is the next one to be published; publishing checks it again."""
        try:
            row = self._client.hmget(keys.private_reply(opened.reply_id), "job", "next")
        except (redis.RedisError, OSError):
            raise UnavailableError("the job queue (Redis) does not answer", code="redis_unavailable") from None
        job_id, due = cast("tuple[bytes | None, bytes | None]", row)
        if job_id is not None and job_id != job.job_id.encode():
            raise PrivateReplyError(
                "this sealed request was answered before; seal it anew to ask again", code="private_replayed"
            )
        if int(due or 0) != delivered.frames:
            raise PrivateReplyError(
                "a part of this private reply was lost; to go on would not be safe. Send it again"
            )


def _inner(job: Job, opened: Opened, delivered: Delivered) -> Job:
    """What the backend gets. Model and mode are those outside, which the envelope was bound to."""
    resume = Resume(token_ids=delivered.tokens) if delivered.begun else None
    parts = {} if opened.binary is None else {AUDIO: opened.binary}
    body = {**opened.body, "model": job.model, "stream": job.stream}
    return job.model_copy(update={"body": body, "resume": resume, "parts": {**job.parts, **parts}})
