"""The large parts of a job, fetched and opened before it is served."""

from __future__ import annotations

import json
import logging
import time

import redis

from tasks import blobs, keys
from tasks.contract import BlobRef, Job, JsonObject
from tasks.errors import BadRequestError, UnavailableError
from tasks.logs import event
from tasks.redis_client import retryable
from tasks.sealing import Opener

_LOG = logging.getLogger("pendra.worker")
_PAGE = 16  # pieces in one round trip: 4 MiB
_TRIES_S = (0.1, 0.5, 1.0, 2.0)


class Parts:
    """Any thread."""

    def __init__(self, client: redis.Redis, opener: Opener) -> None:
        self._client = client
        self._opener = opener

    def attached(self, job: Job) -> Job:
        """The job with its parts; one without any is returned as it is. Blocks.

        Raises WorkerError `blob_lost`, SealError, UnavailableError `redis_unavailable`, BadRequestError.
        """
        if not job.blobs:
            return job
        parts = {ref.name: self._part(keys.blobs(job.job_id), ref) for ref in job.blobs}
        body = parts.pop(blobs.BODY, None)
        event(_LOG, logging.DEBUG, "job.parts", job_id=job.job_id, parts=len(job.blobs))
        changes = {"parts": parts} | ({} if body is None else {"body": _json_object(body)})
        return job.model_copy(update=changes)

    def _part(self, key: str, ref: BlobRef) -> bytes:
        names = blobs.fields(ref)
        whole = bytearray()
        for start in range(0, len(names), _PAGE):
            pieces = self._read(key, names[start : start + _PAGE])
            whole += blobs.opened(self._opener, key, ref, pieces, start)
        return blobs.checked(ref, bytes(whole))

    def _read(self, key: str, names: list[str]) -> list[bytes | None]:
        for pause in _TRIES_S:
            try:
                return list(self._client.hmget(key, names))  # type: ignore[arg-type]  # redis' types are loose
            except (redis.RedisError, OSError) as exc:
                if not retryable(exc):
                    break
                time.sleep(pause)
        raise UnavailableError("the job queue (Redis) does not hand out the request's file", code="redis_unavailable")


def _json_object(data: bytes) -> JsonObject:
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise BadRequestError("the request body is not a JSON object", code="invalid_json")
    return body
