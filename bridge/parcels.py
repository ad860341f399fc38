"""Large replies on their way to the API: read from Redis piece by piece, sent as `blob` frames between the tokens.

At most a few pieces are in memory: the next one is read when the link has room.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import Protocol

import redis

from bridge.blob_store import ReplyReader
from bridge.effects import SendReply
from bridge.protocol import Blob, encode
from tasks.errors import PendraError
from tasks.logs import event

log = logging.getLogger("pendra.bridge")


class Way(Protocol):
    """To the API: what is sent is queued; `room` waits until little of it is left, False: the link is gone.

    `reply_lost` is told the job whose reply cannot be read any more.
    """

    def send_piece(self, text: str) -> None: ...
    async def room(self) -> bool: ...
    def reply_lost(self, job_id: str) -> None: ...


class Parcels:
    """`send` and `stop` on the event loop."""

    def __init__(self, reader: ReplyReader, way: Way) -> None:
        self._reader = reader
        self._way = way
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def send(self, effect: SendReply) -> None:
        """From the first piece on, also when it was being sent already (over a link that is gone)."""
        self._cancel(effect.job_id)
        task = asyncio.get_running_loop().create_task(self._send(effect))
        self._tasks[effect.job_id] = task
        task.add_done_callback(lambda done: self._forget(effect.job_id, done))

    def stop(self) -> None:
        """The link is gone: what was under way begins anew when the API asks again."""
        for job_id in list(self._tasks):
            self._cancel(job_id)

    def _cancel(self, job_id: str) -> None:
        task = self._tasks.pop(job_id, None)
        if task is not None:
            task.cancel()

    def _forget(self, job_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(job_id) is task:
            del self._tasks[job_id]

    async def _send(self, effect: SendReply) -> None:
        ref, job_id = effect.ref, effect.job_id
        for index in range(ref.pieces):
            try:
                data = await self._reader.piece(job_id, ref, index)
            except (redis.RedisError, OSError, PendraError) as exc:
                event(log, logging.ERROR, "reply.lost", job_id=job_id, piece=index, error=type(exc).__name__)
                self._way.reply_lost(job_id)
                return
            if not await self._way.room() or self._tasks.get(job_id) is not asyncio.current_task():
                return  # no way, or begun anew: a cancellation can be lost (tasks/cancelling.py)
            text = base64.b64encode(data).decode()
            last = index == ref.pieces - 1
            self._way.send_piece(encode(Blob(job_id=job_id, name=ref.name, index=index, data=text, last=last)))
