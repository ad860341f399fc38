"""Jobs to the fleet: slots and payloads through the Lua scripts, messages through Celery, control messages.

Everything of one job happens in the order asked: what runs is written down, a slot is given back before the next one
is taken, and a job is struck off when nothing of it is left. Different jobs do not wait for each other.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import Any, Protocol

import redis.asyncio as aredis

from bridge.agent_tasks import AgentTasks, InstallResults
from bridge.blob_store import BlobStore
from bridge.calls import NO_ANSWER, Calls
from bridge.celery_sender import CelerySender
from bridge.effects import (
    Acquire,
    CancelOnWorker,
    DrainWorker,
    DropBlobs,
    Enqueue,
    Fence,
    Forget,
    OnAgents,
    OnBlobs,
    OnRedis,
    Release,
    Remember,
    StoreBlob,
    SweepWorker,
)
from bridge.registry import Registry
from tasks import keys
from tasks.contract import Job
from tasks.logs import event
from tasks.scripts import BridgeScripts, Placement
from tasks.sealing import Sealer, payload_aad

log = logging.getLogger("pendra.bridge.dispatch")


class Results(InstallResults, Protocol):
    """Where the outcome of a dispatch goes; called on the event loop."""

    def taken(self, job_id: str, attempt: int, worker_id: str, size: int) -> None: ...
    def none_free(self, job_id: str, attempt: int) -> None: ...
    def dispatch_failed(self, job_id: str, attempt: int) -> None: ...
    def enqueue_failed(self, job_id: str, attempt: int) -> None: ...
    def fenced(self, job_id: str, attempt: int) -> None: ...
    def fence_failed(self, job_id: str, attempt: int) -> None: ...
    def blob_stored(self, size: int) -> None: ...
    def blob_failed(self, job_id: str) -> None: ...


class Dispatcher:
    """Carries out the session's effects on Redis and Celery. `do` never blocks and never raises."""

    def __init__(
        self,
        client: aredis.Redis,
        app: Any,
        sealer: Sealer,
        results: Results,
        registry: Registry,
        scripts: BridgeScripts | None = None,
    ) -> None:
        self._client = client
        self._registry = registry
        self._scripts = scripts or BridgeScripts(client)
        self._sealer = sealer
        self._blobs = BlobStore(client, sealer)
        self._results = results
        self._calls = Calls()
        self._celery = CelerySender(app)
        self._agents = AgentTasks(client, self._calls, self._celery, registry, results)

    def do(self, effect: OnRedis | OnBlobs | OnAgents) -> None:
        match effect:
            case Acquire(job=job):
                self._calls.in_order(job.job_id, partial(self._acquire, effect))
            case Remember() | Forget():
                self._write_down(effect)
            case Enqueue(job_id=job_id):
                self._calls.in_order(job_id, partial(self._enqueue, effect))
            case Release(job_id=job_id, attempt=attempt):
                release = partial(self._scripts.release, job_id, attempt)
                self._calls.insist_in_order(job_id, release, "slot.release_failed")
            case Fence(job_id=job_id):
                self._calls.in_order(job_id, partial(self._fence, effect))
            case CancelOnWorker(job_id=job_id):
                self._calls.insist_in_order(job_id, partial(self._cancel, effect), "cancel.failed")
            case DrainWorker() | SweepWorker():
                self._worker(effect)
            case StoreBlob() | DropBlobs():
                self._blob(effect)
            case _:
                self._agents.do(effect)

    def _write_down(self, effect: Remember | Forget) -> None:
        if isinstance(effect, Remember):
            job_id, step = effect.entry.id, partial(self._registry.remember, effect.entry)
        else:
            job_id, step = effect.job_id, partial(self._registry.forget, effect.job_id)
        self._calls.insist_in_order(job_id, step, "job.registry_failed")

    def _worker(self, effect: DrainWorker | SweepWorker) -> None:
        if isinstance(effect, DrainWorker):
            drain = partial(self._tell, effect.worker_id, {"op": "drain"})
            self._calls.insist_at_once(drain, "drain.failed")
        else:
            self._calls.insist_at_once(partial(self._sweep, effect.worker_id), "sweep.failed")

    def _blob(self, effect: OnBlobs) -> None:
        if isinstance(effect, StoreBlob):
            self._calls.in_order(effect.job_id, partial(self._store, effect))
        else:
            drop = partial(self._blobs.drop, effect.key)
            self._calls.insist_in_order(effect.job_id, drop, "blobs.drop_failed")

    async def warm_up(self) -> None:
        """Connect Celery now: the first send would take 60 ms longer. A Redis that is away is no error."""
        await self._celery.connect()

    async def settle(self) -> None:
        """Wait until everything asked for was done (or given up)."""
        await self._calls.settle()

    async def close(self) -> None:
        await self._calls.close()
        self._celery.close()

    # ---------------------------------------------------------------- steps

    async def _acquire(self, effect: Acquire) -> None:
        job = effect.job
        placement = self._placement(job, effect.candidates)
        try:
            async with self._calls.turn:
                worker_id = await self._scripts.acquire(placement)
        except NO_ANSWER as exc:
            event(log, logging.WARNING, "slot.acquire_failed", job_id=job.job_id, error=type(exc).__name__)
            self._results.dispatch_failed(job.job_id, job.attempt)
            return
        if worker_id is None:
            self._results.none_free(job.job_id, job.attempt)
        else:
            self._results.taken(job.job_id, job.attempt, worker_id, len(placement.payload))

    def _placement(self, job: Job, candidates: tuple[tuple[str, int], ...]) -> Placement:
        payload = self._sealer.seal(job.model_dump_json().encode(), payload_aad(job.job_id))
        return Placement(job.job_id, job.attempt, payload, job.bridge_id, job.deadline, candidates)

    async def _store(self, effect: StoreBlob) -> None:
        try:
            async with self._calls.turn:
                await self._blobs.store(effect.job_id, effect.name, effect.index, effect.data)
        except NO_ANSWER as exc:
            event(log, logging.ERROR, "blob.store_failed", job_id=effect.job_id, error=type(exc).__name__)
            self._results.blob_failed(effect.job_id)
        finally:
            self._results.blob_stored(len(effect.data))

    async def _enqueue(self, effect: Enqueue) -> None:
        try:
            await self._celery.infer(effect)
        except Exception as exc:  # noqa: BLE001  # kombu lets errors of many libraries through; each means: not sent
            event(log, logging.WARNING, "enqueue.failed", job_id=effect.job_id, error=type(exc).__name__)
            self._results.enqueue_failed(effect.job_id, effect.attempt)

    async def _fence(self, effect: Fence) -> None:
        """Without its hash, or with another attempt in it, no event of the attempt is published any more."""
        job_id, attempt = effect.job_id, effect.attempt
        if await self._calls.insist(partial(self._scripts.release, job_id, attempt), "fence.failed"):
            self._results.fenced(job_id, attempt)
        else:
            self._results.fence_failed(job_id, attempt)

    async def _cancel(self, effect: CancelOnWorker) -> None:
        await self._tell(effect.worker_id, {"op": "cancel", "job_id": effect.job_id, "attempt": effect.attempt})

    async def _tell(self, worker_id: str, command: dict[str, Any]) -> None:
        await self._client.publish(keys.control(worker_id), json.dumps(command))

    async def _sweep(self, worker_id: str) -> None:
        if not await self._client.exists(keys.worker_lease(worker_id)):
            pipe = self._client.pipeline(transaction=False)
            pipe.hdel(keys.WORKERS, worker_id)
            pipe.delete(keys.credits_of(worker_id))
            await pipe.execute()
