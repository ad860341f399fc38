"""Takes the events of this process to their bridges: one thread, one message per bridge and step.

    engine thread ──step(f)──┐
    task threads ──reply.x()─┤► inbox ─► publisher thread: run everything waiting, seal, pack ─► courier ─► Redis
                             └ what is emitted on the publisher thread itself needs no inbox

Whatever waits in the inbox leaves together; nothing waits for more to come.
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

from tasks.contract import TERMINAL, Event, Failed, Job
from tasks.events import pack
from tasks.logs import event, where
from tasks.scripts import Published
from tasks.sealing import Sealer
from worker.courier import Courier
from worker.outbox import Batch
from worker.reply import JobReply
from worker.spill import spilled

_LOG = logging.getLogger("pendra.publisher")
RING_BYTES = 64 * 1024 * 1024  # an outage of minutes at full rate; beyond it the bridge has given the jobs to others
_CALLS_A_BATCH = 256
_IDLE_S = 1.0

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
        self._worker_id = worker_id
        self._worker_name = worker_name
        self._epoch = epoch
        self._sealer = sealer
        self._inbox: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._courier = Courier(client, worker_id, ring_bytes)
        self._emitted: defaultdict[Parcel, list[Event]] = defaultdict(list)
        self._ended: defaultdict[Parcel, list[JobReply]] = defaultdict(list)
        self._open: dict[JobReply, None] = {}  # in order; a dict, because looking at one is atomic
        self.emitted = 0
        """How many events there were: one of the signs that something moves."""
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
        self._post(self._courier.rewind_next)
        for reply in self.unanswered():
            reply.progress(reply.stage or "running")

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
            self._courier.flush()
        self._courier.give_up()

    def _finished(self) -> bool:
        if self._stop_by is None:
            return False
        idle = not self._courier and self._inbox.empty()
        return idle or time.monotonic() > self._stop_by

    def _gather(self) -> None:
        """Run what waits in the inbox; block for it only while there is nothing to send."""
        try:
            call = self._inbox.get(timeout=self._courier.pause(_IDLE_S))
            for _ in range(_CALLS_A_BATCH):
                self._call(call)
                call = self._inbox.get_nowait()
            self._call(call)
        except queue.Empty:
            pass

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
            self._courier.put(batch)
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
