"""Brings event batches to Redis, in order: one pipeline a flush, XADD + PUBLISH (+ slot release) per batch.

While Redis is away the batches wait in the outbox, up to a bound. One whose fate is unknown (the connection broke
during it) is sent again, and so is what was sent just before Redis was lost, since Redis may have died with it:
bridges drop events whose seq they have.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import redis

from tasks import keys
from tasks.logs import event
from tasks.redis_client import retryable
from tasks.scripts import Published, WorkerScripts
from worker.outbox import Batch, Outbox

_LOG = logging.getLogger("pendra.publisher")
_BATCHES_A_FLUSH = 64
_BACKOFF_S = (0.05, 2.0)
_EXPIRE_EVERY_S = keys.REPLAY_TTL_S / 4


class Courier:
    """Belongs to the publisher thread. Never raises for Redis' sake: it logs and tries again."""

    def __init__(self, client: redis.Redis, worker_id: str, ring_bytes: int) -> None:
        self._client = client
        self._scripts = WorkerScripts(client)
        self._worker_id = worker_id
        self._outbox = Outbox(ring_bytes)
        self._expire_at: dict[str, float] = {}
        self._delay = 0.0
        self._retry_at = 0.0
        self._overflowing = False
        self._lost = False

    def __len__(self) -> int:
        """Batches that wait."""
        return len(self._outbox)

    def put(self, batch: Batch) -> None:
        """It leaves with the next flush, unless what waits is too much: then the oldest are dropped."""
        dropped = self._outbox.put(batch)
        if dropped:
            jobs = [job_id for one in dropped for job_id, _ in one.releases]
            level = logging.DEBUG if self._overflowing else logging.ERROR
            event(_LOG, level, "publisher.overflow", batches=len(dropped), ended_jobs=jobs)
        self._overflowing = bool(dropped)

    def pause(self, idle_s: float) -> float:
        """Seconds until the next flush is due; `idle_s` when nothing waits."""
        return max(0.0, self._retry_at - time.monotonic()) if self._outbox else idle_s

    def flush(self) -> None:
        """Send what waits, in one round trip, unless Redis was away a moment ago."""
        if time.monotonic() < self._retry_at:
            return
        if self._lost:
            self._lost = False
            event(_LOG, logging.INFO, "publisher.rewound", batches=self._outbox.rewind())
        batches = self._outbox.head(_BATCHES_A_FLUSH)
        if not batches:
            return
        sent = self._deliver(batches)
        self._outbox.pop(sent)
        if sent == len(batches):
            self._recovered()

    def rewind_next(self) -> None:
        """Redis has lost its data: the next flush begins with what was sent lately."""
        self._lost = True

    def give_up(self) -> None:
        """What waits is not sent any more."""
        if given_up := self._outbox.clear():
            event(_LOG, logging.ERROR, "publisher.gave_up", batches=given_up)

    # ----------------------------------------------------------------- a round trip

    def _deliver(self, batches: Sequence[Batch]) -> int:
        """How many, from the first, are done: out, or refused by Redis for good."""
        pipe = self._client.pipeline(transaction=False)
        ends = [self._queue(pipe, batch) for batch in batches]
        try:
            results = pipe.execute(raise_on_error=False)
        except (redis.RedisError, OSError) as exc:
            if not retryable(exc):
                return self._rejected(exc, batches)
            self._back_off(exc)
            return 0
        return self._judged(batches, ends, results)

    def _judged(self, batches: Sequence[Batch], ends: Sequence[int], results: Sequence[Any]) -> int:
        """The same, from the commands' results; those of `batches[n]` end before `ends[n]`."""
        begin = 0
        for done, (batch, end) in enumerate(zip(batches, ends, strict=True)):
            for result in results[begin:end]:
                if isinstance(result, Exception):
                    if retryable(result):
                        self._back_off(result)
                        return done
                    self._rejected(result, (batch,))
            first = results[begin]
            if batch.guard is not None and not isinstance(first, Exception) and first < Published.BEFORE:
                batch.refused(Published(first))
            begin = end
        return len(batches)

    def _queue(self, pipe: redis.client.Pipeline, batch: Batch) -> int:
        """Where its commands end; of a private job the first is its guard."""
        stream = keys.replay(batch.bridge_id)
        if batch.guard is not None:
            pieces = (piece for laid in batch.blobs for piece in laid.pieces.items())
            self._scripts.publish(pipe, batch.guard, batch.bridge_id, batch.data, pieces)
        else:
            self._queue_freely(pipe, stream, batch)
        for job_id, attempt in batch.releases:
            self._scripts.release(job_id, attempt, pipe, worker_id=self._worker_id)
        now = time.monotonic()
        if now >= self._expire_at.get(stream, 0.0):
            self._expire_at[stream] = now + _EXPIRE_EVERY_S
            pipe.expire(stream, keys.REPLAY_TTL_S)
        return len(pipe)

    def _queue_freely(self, pipe: redis.client.Pipeline, stream: str, batch: Batch) -> None:
        for laid in batch.blobs:
            pipe.hset(laid.key, mapping=laid.pieces)  # type: ignore[arg-type]  # redis' types know no bytes
            pipe.expire(laid.key, keys.REPLAY_TTL_S)
        pipe.xadd(stream, {"b": batch.data}, maxlen=keys.REPLAY_MAXLEN, approximate=True)
        pipe.publish(keys.events(batch.bridge_id), batch.data)

    # ----------------------------------------------------------------- how it went

    def _rejected(self, exc: Exception, batches: Sequence[Batch]) -> int:
        event(_LOG, logging.ERROR, "publisher.rejected", error=type(exc).__name__, batches=len(batches))
        return len(batches)

    def _back_off(self, exc: Exception) -> None:
        self._delay = min(max(self._delay * 2, _BACKOFF_S[0]), _BACKOFF_S[1])
        self._retry_at = time.monotonic() + self._delay
        self._expire_at.clear()  # the streams may be new when Redis is back
        self._lost = True
        level = logging.WARNING if self._delay == _BACKOFF_S[0] else logging.DEBUG
        event(_LOG, level, "publisher.lost", error=type(exc).__name__, retry_s=self._delay, waiting=len(self._outbox))

    def _recovered(self) -> None:
        if self._delay:
            event(_LOG, logging.INFO, "publisher.back")
        self._delay = self._retry_at = 0.0
