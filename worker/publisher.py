"""Takes the events of this process to their bridges: one thread, one message per bridge and step.

    engine thread ──step(f)──┐
    task threads ──reply.x()─┤► inbox ─► publisher thread: run everything waiting, seal, pack
                             │            └► outbox ─► one pipeline: XADD + PUBLISH (+ slot release) per message
                             └ what is emitted on the publisher thread itself needs no inbox

Whatever waits in the inbox leaves together; nothing waits for more to come. While Redis is away the outbox keeps
the messages in order, up to a bound. A message whose fate is unknown (the connection broke during it) is sent
again, and so is what was sent just before Redis was lost, since Redis may have died with it: bridges drop events
whose seq they have.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import redis

from tasks import keys
from tasks.contract import TERMINAL, Event, Failed, Job
from tasks.events import pack
from tasks.logs import event, where
from tasks.redis_client import retryable
from tasks.scripts import Published, WorkerScripts
from tasks.sealing import Sealer
from worker.outbox import Batch, Outbox
from worker.reply import JobReply
from worker.spill import spilled

_LOG = logging.getLogger("pendra.publisher")
RING_BYTES = 64 * 1024 * 1024  # an outage of minutes at full rate; beyond it the bridge has given the jobs to others
_BATCHES_A_FLUSH = 64
_CALLS_A_BATCH = 256
_BACKOFF_S = (0.05, 2.0)
_IDLE_S = 1.0
_EXPIRE_EVERY_S = keys.REPLAY_TTL_S / 4

Call = Callable[[], None]
Parcel = tuple[str, JobReply | None]
"""What leaves as one message: a bridge, and the job when it is private (its message has a guard of its own)."""


class Publisher:
    """`open`, `step` and `stop` from any thread. Never raises for Redis' sake: it logs and tries again."""

    def __init__(
        self,
        client: redis.Redis,
        worker_id: str,
        sealer: Sealer,
        *,
        worker_name: str = "",
        epoch: str = "",
        ring_bytes: int = RING_BYTES,
    ) -> None:
        self._client = client
        self._scripts = WorkerScripts(client)
        self._worker_id = worker_id
        self._worker_name = worker_name
        self._epoch = epoch
        self._sealer = sealer
        self._inbox: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._outbox = Outbox(ring_bytes)
        self._emitted: defaultdict[Parcel, list[Event]] = defaultdict(list)
        self._ended: defaultdict[Parcel, list[JobReply]] = defaultdict(list)
        self._expire_at: dict[str, float] = {}
        self._open: dict[JobReply, None] = {}  # in order; a dict, because looking at one is atomic
        self.emitted = 0
        """How many events there were: one of the signs that something moves."""
        self._delay = 0.0
        self._retry_at = 0.0
        self._overflowing = False
        self._lost = False
        self._stop_by: float | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    # ------------------------------------------------------------------ any thread

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Send what waits, for at most `timeout_s`, then give up the rest and end."""
        self._stop_by = time.monotonic() + timeout_s
        self._inbox.put(lambda: None)
        self._thread.join(timeout_s + _IDLE_S)

    def open(self, job: Job) -> JobReply:
        """The reply of a job that was just claimed; its first event takes `job.first_seq`."""
        reply = JobReply(job, self._worker_id, self._worker_name, self._post, self._emit, epoch=self._epoch)
        self._open[reply] = None
        return reply

    def unanswered(self) -> list[JobReply]:
        """The replies whose terminal event has not been given yet. Any thread."""
        return [reply for reply in list(self._open) if not reply.closed]

    def resend(self) -> None:
        """Redis has lost its data: say again what it may have lost, and that our jobs still run. Any thread."""
        self._post(self._mark_lost)
        for reply in self.unanswered():
            reply.progress(reply.stage or "running")

    def _mark_lost(self) -> None:
        self._lost = True

    def step(self, call: Call) -> None:
        """Run `call` on the publisher thread; what it emits to one bridge leaves as one message. Returns at once."""
        self._inbox.put(call)

    def _post(self, call: Call) -> None:
        if threading.get_ident() == self._thread.ident:
            call()
        else:
            self._inbox.put(call)

    # ------------------------------------------------------------ publisher thread

    def _run(self) -> None:
        while not self._finished():
            self._gather()
            self._enclose()
            self._flush()
        if given_up := self._outbox.clear():
            event(_LOG, logging.ERROR, "publisher.gave_up", batches=given_up)

    def _finished(self) -> bool:
        if self._stop_by is None:
            return False
        idle = not self._outbox and self._inbox.empty()
        return idle or time.monotonic() > self._stop_by

    def _gather(self) -> None:
        """Run what waits in the inbox; block for it only while there is nothing to send."""
        try:
            call = self._inbox.get(timeout=self._pause())
            for _ in range(_CALLS_A_BATCH):
                self._call(call)
                call = self._inbox.get_nowait()
            self._call(call)
        except queue.Empty:
            pass

    def _pause(self) -> float:
        if self._outbox:
            return max(0.0, self._retry_at - time.monotonic())
        return _IDLE_S

    def _call(self, call: Call) -> None:
        try:
            call()
        except Exception as exc:  # noqa: BLE001  # one job's fault must not silence the others
            event(_LOG, logging.ERROR, "publisher.step_failed", error=type(exc).__name__, at=where(exc))

    def _emit(self, reply: JobReply, item: Event) -> None:
        """Only ever called on the publisher thread, through `_post`."""
        parcel = (reply.job.bridge_id, reply if reply.private else None)
        self._emitted[parcel].append(item)
        self.emitted += 1
        if isinstance(item, TERMINAL):
            self._ended[parcel].append(reply)

    def _enclose(self) -> None:
        """What was emitted becomes one batch per bridge, and one per private job."""
        for parcel, items in self._emitted.items():
            bridge_id, private = parcel
            ended = self._ended.pop(parcel, [])
            told = [spilled(item, self._sealer) for item in items]
            batch = Batch(
                bridge_id,
                self._pack([item for item, _ in told]),
                blobs=tuple(laid for _, laid in told if laid is not None),
                releases=tuple((reply.job.job_id, reply.job.attempt) for reply in ended),
                settle=tuple(partial(self._settle, reply) for reply in ended),
                guard=private.guard(items) if private else None,
                refused=private.refused if private else _nobody,
            )
            self._overflow(self._outbox.put(batch))
        self._emitted.clear()

    def _settle(self, reply: JobReply) -> None:
        self._open.pop(reply, None)
        reply.settle()

    def _pack(self, items: Sequence[Event]) -> bytes:
        try:
            return pack(self._worker_id, items, self._sealer)
        except (ValueError, TypeError) as exc:
            # pydantic refuses text with lone surrogates: that one event becomes a failure, the others live
            event(_LOG, logging.ERROR, "publisher.unencodable", error=type(exc).__name__, events=len(items))
            return pack(self._worker_id, [encodable(item) for item in items], self._sealer)

    def _overflow(self, dropped: list[Batch]) -> None:
        if dropped:
            jobs = [job_id for batch in dropped for job_id, _ in batch.releases]
            level = logging.DEBUG if self._overflowing else logging.ERROR
            event(_LOG, level, "publisher.overflow", batches=len(dropped), ended_jobs=jobs)
        self._overflowing = bool(dropped)

    def _flush(self) -> None:
        if time.monotonic() < self._retry_at:
            return
        self._rewind()
        batches = self._outbox.head(_BATCHES_A_FLUSH)
        if not batches:
            return
        try:
            sent = self._send(batches)
        except (redis.RedisError, OSError) as exc:
            if retryable(exc):
                self._back_off(exc)
                return
            event(_LOG, logging.ERROR, "publisher.rejected", error=type(exc).__name__, batches=len(batches))
            sent = len(batches)
        self._outbox.pop(sent)
        if sent == len(batches):
            self._recovered()

    def _rewind(self) -> None:
        if self._lost:
            self._lost = False
            event(_LOG, logging.INFO, "publisher.rewound", batches=self._outbox.rewind())

    def _send(self, batches: Sequence[Batch]) -> int:
        """One round trip. Returns how many batches, from the first, are done. Raises redis.RedisError."""
        pipe = self._client.pipeline(transaction=False)
        ends = []
        guarded: dict[int, Batch] = {}
        for batch in batches:
            if batch.guard is not None:
                guarded[len(pipe)] = batch
            self._queue(pipe, batch)
            ends.append(len(pipe))
        results = pipe.execute(raise_on_error=False)
        for index, result in enumerate(results):
            if isinstance(result, Exception):
                done = sum(end <= index for end in ends)
                if retryable(result):
                    self._back_off(result)
                    return done
                event(_LOG, logging.ERROR, "publisher.rejected", error=type(result).__name__, batches=1)
            elif index in guarded and (verdict := Published(result)) < Published.BEFORE:
                guarded[index].refused(verdict)
        return len(batches)

    def _queue(self, pipe: redis.client.Pipeline, batch: Batch) -> None:
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

    def _queue_freely(self, pipe: redis.client.Pipeline, stream: str, batch: Batch) -> None:
        for laid in batch.blobs:
            pipe.hset(laid.key, mapping=laid.pieces)  # type: ignore[arg-type]  # redis' types know no bytes
            pipe.expire(laid.key, keys.REPLAY_TTL_S)
        pipe.xadd(stream, {"b": batch.data}, maxlen=keys.REPLAY_MAXLEN, approximate=True)
        pipe.publish(keys.events(batch.bridge_id), batch.data)

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


def _nobody(_why: Published) -> None:
    """Nobody is told: only what has a guard is ever refused."""


def encodable(item: Event) -> Event:
    """The event itself, or a failure in its place when it cannot be written as JSON."""
    try:
        item.model_dump_json()
    except ValueError:
        return Failed(
            job_id=item.job_id,
            attempt=item.attempt,
            seq=item.seq,
            code="worker_error",
            message="the reply holds text that cannot be sent as UTF-8",
        )
    return item
