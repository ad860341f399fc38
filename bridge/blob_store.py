"""Sealed pieces of large parts in Redis (`tasks.blobs`), from the bridge's side."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import redis
import redis.asyncio as aredis

from tasks import blobs, keys
from tasks.contract import BlobRef
from tasks.redis_client import retryable
from tasks.sealing import Opener, Sealer, blob_aad

_TRIES_S = (0.1, 0.5, 1.0, 2.0)


class BlobStore:
    """Raises redis.RedisError or OSError when Redis does not answer for some seconds."""

    def __init__(self, client: aredis.Redis, sealer: Sealer) -> None:
        self._client = client
        self._sealer = sealer

    async def store(self, job_id: str, name: str, index: int, data: bytes) -> None:
        """Lay one piece of a request down, for as long as a job may take."""
        key = keys.blobs(job_id)
        sealed = self._sealer.seal(data, blob_aad(key, name, index))
        for pause in (*_TRIES_S, None):
            try:
                pipe = self._client.pipeline(transaction=False)
                pipe.hset(key, blobs.field(name, index), cast("Any", sealed))
                pipe.expire(key, keys.JOB_TTL_S)
                await pipe.execute()
            except (redis.RedisError, OSError) as exc:
                if pause is None or not retryable(exc):
                    raise
                await asyncio.sleep(pause)
            else:
                return

    async def drop(self, key: str) -> None:
        await self._client.delete(key)


class ReplyReader:
    """Raises like `BlobStore`."""

    def __init__(self, client: aredis.Redis, opener: Opener) -> None:
        self._client = client
        self._opener = opener

    async def piece(self, job_id: str, ref: BlobRef, index: int) -> bytes:
        """One piece of a reply. Raises PendraError too: WorkerError `blob_lost`, SealError."""
        key = keys.reply(job_id)
        for pause in (*_TRIES_S, None):
            try:
                sealed = await cast("Any", self._client.hget(key, blobs.field(ref.name, index)))
            except (redis.RedisError, OSError) as exc:
                if pause is None or not retryable(exc):
                    raise
                await asyncio.sleep(pause)
            else:
                return blobs.opened(self._opener, key, ref, [cast("bytes | None", sealed)], index)
        raise AssertionError("unreachable: the last try returns or raises")
