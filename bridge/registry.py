"""The jobs and installs a bridge owns, written down in Redis (sealed), so that its successor can go on with them.

An entry is written when a job is accepted and again with every later attempt, and struck off when the API has its
end; what happened since is in the replay stream. A job that was dispatched is also in its own hash, whose payload
says which attempt is under way.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import redis.asyncio as aredis
from pydantic import ValidationError

from bridge.entries import Entry, Found, InstallEntry, newest
from tasks import keys
from tasks.contract import Job
from tasks.errors import SealError
from tasks.logs import event
from tasks.scripts import BridgeScripts
from tasks.sealing import Opener, Sealer, open_job_aad, payload_aad

log = logging.getLogger("pendra.bridge.registry")


class Registry:
    """Raises redis.RedisError when Redis does not answer."""

    def __init__(
        self,
        client: aredis.Redis,
        bridge_id: str,
        sealer: Sealer,
        opener: Opener,
        scripts: BridgeScripts | None = None,
    ) -> None:
        self._client = client
        self._scripts = scripts or BridgeScripts(client, bridge_id)
        self._key = keys.open_jobs(bridge_id)
        self._installs = keys.open_installs(bridge_id)
        self._sealer = sealer
        self._opener = opener

    async def remember(self, entry: Entry) -> None:
        sealed = self._sealer.seal(entry.model_dump_json().encode(), open_job_aad(entry.id))
        await self._scripts.note(entry.id, sealed)

    async def forget(self, job_id: str) -> None:
        await self._scripts.note(job_id)

    async def read(self) -> list[Found]:
        """Everything a predecessor left. What cannot be opened is left out (and logged)."""
        rows = cast("dict[bytes, bytes]", await cast("Any", self._client.hgetall(self._key)))
        entries = [entry for job_id, sealed in rows.items() if (entry := self._open(job_id.decode(), sealed))]
        if not entries:
            return []
        pipe = self._client.pipeline(transaction=False)
        for entry in entries:
            pipe.hmget(keys.job(entry.id), "credit", "payload")
        states = cast("list[Sequence[bytes | None]]", await pipe.execute())
        return [self._found(entry, *state) for entry, state in zip(entries, states, strict=True)]

    async def note_install(self, entry: InstallEntry) -> None:
        sealed = self._sealer.seal(entry.model_dump_json().encode(), open_job_aad(entry.id))
        pipe = self._client.pipeline(transaction=False)
        pipe.hset(self._installs, entry.id, cast("Any", sealed))
        pipe.expire(self._installs, keys.INSTALL_TTL_S)
        await pipe.execute()

    async def drop_install(self, request_id: str) -> None:
        await cast("Any", self._client.hdel(self._installs, request_id))

    async def installs(self) -> list[InstallEntry]:
        """Every install a predecessor left. What cannot be opened is left out (and logged)."""
        rows = cast("dict[bytes, bytes]", await cast("Any", self._client.hgetall(self._installs)))
        return [found for name, sealed in rows.items() if (found := self._open_install(name.decode(), sealed))]

    def _open_install(self, request_id: str, sealed: bytes) -> InstallEntry | None:
        try:
            return InstallEntry.model_validate_json(self._opener.open(sealed, open_job_aad(request_id)))
        except (SealError, ValidationError) as exc:
            event(log, logging.ERROR, "install.unreadable", request_id=request_id, error=type(exc).__name__)
            return None

    def _open(self, job_id: str, sealed: bytes) -> Entry | None:
        try:
            return Entry.model_validate_json(self._opener.open(sealed, open_job_aad(job_id)))
        except (SealError, ValidationError) as exc:
            event(log, logging.ERROR, "job.unreadable", job_id=job_id, error=type(exc).__name__)
            return None

    def _found(self, entry: Entry, credit: bytes | None, payload: bytes | None) -> Found:
        if credit is None or payload is None:
            return Found(entry)
        try:
            job = Job.model_validate_json(self._opener.open(payload, payload_aad(entry.id)))
        except (SealError, ValidationError) as exc:
            event(log, logging.ERROR, "job.unreadable", job_id=entry.id, error=type(exc).__name__)
            return Found(entry)
        return Found(newest(entry, job), credit.decode())
