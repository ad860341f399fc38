"""The worker's sign of life: a lease, an entry in the fleet's list, a word on the fleet channel.

One thread of its own, so that it beats while a model loads and while the engine computes (both release the GIL).
A bridge gives jobs only to a worker whose lease lives. When a beat finds the lease gone although we held it (Redis
was restarted, or we were stalled past it), everything else of ours may be gone too and is written again: the
credits of the jobs that run here, and (`lost`) their latest events.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable

import redis

from tasks import keys
from tasks.contract import WorkerInfo
from tasks.logs import event
from tasks.scripts import WorkerScripts

_LOG = logging.getLogger("pendra.heartbeat")
_LEAST_GAP_S = 0.2  # pokes closer together than this share a beat: every bridge hears each one
_RETRY_S = 0.25  # Redis may be back any moment, and until then nobody gives us work
_LEASE_MS = int(keys.WORKER_LEASE_S * 1000)

JobKey = tuple[str, int]


class Heartbeat:
    """Beats from `start` to `stop`. `snapshot` and `running` are called on the heartbeat thread and must not block.

    `running` lists (job id, attempt) of the jobs whose slots this process really holds.
    """

    def __init__(
        self,
        client: redis.Redis,
        snapshot: Callable[[], WorkerInfo],
        running: Callable[[], Iterable[JobKey]],
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._lost = lost
        self._scripts = WorkerScripts(client)
        self._snapshot = snapshot
        self._running = running
        self._wake = threading.Event()
        self._stopping = False
        self._up: bool | None = None  # None: never beaten
        self._reclaimed: set[JobKey] = set()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def poke(self) -> None:
        """Beat soon: something a bridge should know has changed. From any thread."""
        self._wake.set()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Say goodbye to the fleet and end. Returns after `timeout_s` at the latest, said or not."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether the last beat reached Redis."""
        return bool(self._up)

    # ------------------------------------------------------------ heartbeat thread

    def _run(self) -> None:
        while not self._stopping:
            began = time.monotonic()
            ok = self._attempt(self.beat)
            self._wake.wait(max(0.0, keys.HEARTBEAT_S - (time.monotonic() - began)) if ok else _RETRY_S)
            if not self._stopping:
                time.sleep(max(0.0, _LEAST_GAP_S - (time.monotonic() - began)))
            self._wake.clear()
        self._attempt(self.goodbye)

    def _attempt(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except (redis.RedisError, OSError) as exc:
            if self._up is not False:
                event(_LOG, logging.WARNING, "heartbeat.lost", error=type(exc).__name__)
            self._up = False
            return False
        if not self._up and not self._stopping:
            event(_LOG, logging.INFO, "heartbeat.up")
        self._up = True
        return True

    def beat(self) -> None:
        """One beat, one round trip (a second one only after the lease was lost). Raises redis.RedisError."""
        info, first = self._snapshot(), self._up is None
        pipe = self._client.pipeline(transaction=False)
        if first:
            # slots that an earlier life of this worker held are free: nothing runs here yet
            pipe.delete(keys.credits_of(info.worker_id))
        text = info.model_dump_json()
        pipe.set(keys.worker_lease(info.worker_id), info.epoch, px=_LEASE_MS, get=True)
        pipe.hset(keys.WORKERS, info.worker_id, text)
        pipe.publish(keys.FLEET, text)
        previous = pipe.execute()[1 if first else 0]
        if previous is None or first:
            self._reclaim(info.worker_id)
        if previous is None and not first:
            self._lost()
        elif not first and previous != info.epoch.encode():
            event(_LOG, logging.ERROR, "heartbeat.twin", worker_id=info.worker_id, epoch=info.epoch)
        self._settle(info.worker_id)

    def goodbye(self) -> None:
        """Take us off the fleet's list. Raises redis.RedisError."""
        worker_id = self._snapshot().worker_id
        pipe = self._client.pipeline(transaction=False)
        pipe.delete(keys.worker_lease(worker_id), keys.credits_of(worker_id))
        pipe.hdel(keys.WORKERS, worker_id)
        pipe.publish(keys.FLEET, json.dumps({"gone": worker_id}))
        pipe.execute()

    def _reclaim(self, worker_id: str) -> None:
        held = set(self._running())
        if held:
            self._client.sadd(keys.credits_of(worker_id), *{job_id for job_id, _ in held})
            self._reclaimed |= held
            event(_LOG, logging.INFO, "heartbeat.reclaimed", jobs=len(held))

    def _settle(self, worker_id: str) -> None:
        """A job may have ended while its credit was written again: give it back (releasing twice is harmless)."""
        for job_id, attempt in self._reclaimed - set(self._running()):
            self._scripts.release(job_id, attempt, worker_id=worker_id)
            self._reclaimed.discard((job_id, attempt))
