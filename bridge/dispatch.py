"""Jobs to the fleet: slots and payloads through the Lua scripts, messages through Celery, control messages.

Everything of one job happens in the order asked: what runs is written down, a slot is given back before the next one
is taken, and a job is struck off when nothing of it is left. Different jobs do not wait for each other.
Celery's `send_task` blocks, so it runs in one thread of its own (more are slower).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import redis
import redis.asyncio as aredis

from bridge import problems
from bridge.blob_store import BlobStore
from bridge.effects import (
    Acquire,
    CancelOnWorker,
    DrainWorker,
    DropBlobs,
    DropInstall,
    Enqueue,
    Fence,
    Forget,
    NoteInstall,
    OnAgents,
    OnBlobs,
    OnRedis,
    Release,
    Remember,
    StartTask,
    StopTask,
    StoreBlob,
    SweepWorker,
)
from bridge.registry import Registry
from tasks import keys
from tasks.cancelling import ended
from tasks.celery_config import AGENT_NAME, ARGSREPR, CANCEL_INSTALL, INFER
from tasks.contract import Job
from tasks.errors import PendraError
from tasks.logs import event
from tasks.redis_client import retryable
from tasks.scripts import BridgeScripts, Placement
from tasks.sealing import Sealer, payload_aad

log = logging.getLogger("pendra.bridge.dispatch")

RETRIES_S = (0.1, 0.25, *[0.5] * 16)  # for what must not be lost to a short outage: releases and cancels

CONNECTIONS = 16  # Redis calls at a time; a burst must neither exhaust the client's pool nor connect a hundred times

_FAILED = (redis.RedisError, OSError)


class Results(Protocol):
    """Where the outcome of a dispatch goes; called on the event loop."""

    def taken(self, job_id: str, attempt: int, worker_id: str, size: int) -> None: ...
    def none_free(self, job_id: str, attempt: int) -> None: ...
    def dispatch_failed(self, job_id: str, attempt: int) -> None: ...
    def enqueue_failed(self, job_id: str, attempt: int) -> None: ...
    def fenced(self, job_id: str, attempt: int) -> None: ...
    def fence_failed(self, job_id: str, attempt: int) -> None: ...
    def blob_stored(self, size: int) -> None: ...
    def blob_failed(self, job_id: str) -> None: ...
    def install_ended(self, task_id: str, result: dict[str, Any] | None, problem: PendraError | None) -> None: ...


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
        self._app = app
        self._sealer = sealer
        self._blobs = BlobStore(client, sealer)
        self._results = results
        self._calls = asyncio.Semaphore(CONNECTIONS)
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="celery-send")
        self._last: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def do(
        self,
        effect: OnRedis | OnBlobs | OnAgents,
    ) -> None:
        match effect:
            case Acquire(job=job):
                self._in_order(job.job_id, partial(self._acquire, effect))
            case Remember() | Forget():
                self._write_down(effect)
            case Enqueue(job_id=job_id):
                self._in_order(job_id, partial(self._enqueue, effect))
            case Release(job_id=job_id, attempt=attempt):
                release = partial(self._scripts.release, job_id, attempt)
                self._in_order(job_id, partial(self._insist, release, "slot.release_failed"))
            case Fence(job_id=job_id):
                self._in_order(job_id, partial(self._fence, effect))
            case CancelOnWorker(job_id=job_id):
                cancel = partial(self._cancel, effect)
                self._in_order(job_id, partial(self._insist, cancel, "cancel.failed"))
            case DrainWorker() | SweepWorker():
                self._worker(effect)
            case StoreBlob() | DropBlobs():
                self._blob(effect)
            case StartTask() | StopTask() | NoteInstall() | DropInstall():
                self._install(effect)

    def _worker(self, effect: DrainWorker | SweepWorker) -> None:
        if isinstance(effect, DrainWorker):
            drain = partial(self._tell, effect.worker_id, {"op": "drain"})
            self._start(self._insist(drain, "drain.failed"))
        else:
            self._start(self._insist(partial(self._sweep, effect.worker_id), "sweep.failed"))

    def _blob(self, effect: OnBlobs) -> None:
        if isinstance(effect, StoreBlob):
            self._in_order(effect.job_id, partial(self._store, effect))
        else:
            drop = partial(self._blobs.drop, effect.key)
            self._in_order(effect.job_id, partial(self._insist, drop, "blobs.drop_failed"))

    def _install(self, effect: OnAgents) -> None:
        match effect:
            case StartTask(task_id=task_id):
                self._in_order(task_id, partial(self._start_task, effect))
            case StopTask(task_id=task_id):
                self._in_order(
                    task_id, partial(self._insist, partial(self._stop_task, effect), "install.cancel_failed")
                )
            case NoteInstall(entry=entry):
                note = partial(self._registry.note_install, entry)
                self._in_order(f"install:{entry.id}", partial(self._insist, note, "install.registry_failed"))
            case DropInstall(request_id=request_id):
                drop = partial(self._registry.drop_install, request_id)
                self._in_order(f"install:{request_id}", partial(self._insist, drop, "install.registry_failed"))

    def _write_down(self, effect: Remember | Forget) -> None:
        if isinstance(effect, Remember):
            job_id, step = effect.entry.id, partial(self._registry.remember, effect.entry)
        else:
            job_id, step = effect.job_id, partial(self._registry.forget, effect.job_id)
        self._in_order(job_id, partial(self._insist, step, "job.registry_failed"))

    async def warm_up(self) -> None:
        """Connect Celery now: the first send would take 60 ms longer. A Redis that is away is no error."""
        await self._in_sender(self._connect_celery)

    async def settle(self) -> None:
        """Wait until everything asked for was done (or given up)."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        await ended(*self._tasks)
        self._sender.shutdown(wait=False, cancel_futures=True)
        self._app.close()

    # ---------------------------------------------------------------- order

    def _in_order(self, job_id: str, step: Callable[[], Awaitable[object]]) -> None:
        """Run `step` after everything asked for this job before."""
        before = self._last.get(job_id)

        async def run() -> None:
            if before is not None and not before.done():
                await asyncio.wait([before])
            await step()

        task = self._last[job_id] = self._start(run())
        task.add_done_callback(partial(self._forget, job_id))

    def _forget(self, job_id: str, task: asyncio.Task[None]) -> None:
        if self._last.get(job_id) is task:
            del self._last[job_id]

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---------------------------------------------------------------- steps

    async def _acquire(self, effect: Acquire) -> None:
        job = effect.job
        placement = self._placement(job, effect.candidates)
        try:
            async with self._calls:
                worker_id = await self._scripts.acquire(placement)
        except _FAILED as exc:
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
            async with self._calls:
                await self._blobs.store(effect.job_id, effect.name, effect.index, effect.data)
        except _FAILED as exc:
            event(log, logging.ERROR, "blob.store_failed", job_id=effect.job_id, error=type(exc).__name__)
            self._results.blob_failed(effect.job_id)
        finally:
            self._results.blob_stored(len(effect.data))

    async def _enqueue(self, effect: Enqueue) -> None:
        try:
            await self._in_sender(partial(self._send, effect))
        except Exception as exc:  # noqa: BLE001  # kombu lets errors of many libraries through; each means: not sent
            event(log, logging.WARNING, "enqueue.failed", job_id=effect.job_id, error=type(exc).__name__)
            self._results.enqueue_failed(effect.job_id, effect.attempt)

    def _send(self, effect: Enqueue) -> None:
        self._app.send_task(
            INFER,
            kwargs={"job_id": effect.job_id, "attempt": effect.attempt, "model": effect.model, "size": effect.size},
            task_id=f"{effect.job_id}.{effect.attempt}",
            queue=effect.queue,
            argsrepr=ARGSREPR,
            kwargsrepr=ARGSREPR,
            ignore_result=True,
            retry=False,
        )

    async def _fence(self, effect: Fence) -> None:
        """Without its hash, or with another attempt in it, no event of the attempt is published any more."""
        job_id, attempt = effect.job_id, effect.attempt
        if await self._insist(partial(self._scripts.release, job_id, attempt), "fence.failed"):
            self._results.fenced(job_id, attempt)
        else:
            self._results.fence_failed(job_id, attempt)

    async def _start_task(self, effect: StartTask) -> None:
        send = partial(
            self._app.send_task,
            effect.name,
            kwargs=effect.arguments,
            task_id=effect.task_id,
            queue=keys.install_queue(effect.node),
            retry=False,
        )
        try:
            await self._in_sender(send)
        except Exception as exc:  # noqa: BLE001  # whatever the broker's library raises
            event(log, logging.WARNING, "install.send_failed", task_id=effect.task_id, error=type(exc).__name__)
            self._results.install_ended(effect.task_id, None, problems.NO_REDIS)

    async def _stop_task(self, effect: StopTask) -> None:
        """An agent that is away finds the note when it begins with the task; one that is there is told."""
        said = "discard" if effect.discard else "keep"
        await self._client.set(keys.install_stop(effect.task_id), said, ex=keys.INSTALL_TTL_S)
        await self._in_sender(partial(self._tell_agent, effect))

    def _tell_agent(self, effect: StopTask) -> None:
        """It hears both in this order, so that a running install knows about `discard` when it stops."""
        if effect.discard:
            self._app.control.broadcast(
                CANCEL_INSTALL,
                arguments={"target": effect.task_id, "discard": True},
                destination=[AGENT_NAME.format(node=effect.node)],
            )
        self._app.control.revoke(effect.task_id)

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

    async def _insist(self, step: Callable[[], Awaitable[object]], action: str) -> bool:
        """Do it, and again for some seconds while Redis is away; whether it was done. Redis lost = nothing left to
        release or stop."""
        for delay in (*RETRIES_S, None):
            try:
                async with self._calls:
                    await step()
            except _FAILED as exc:
                if delay is None or not retryable(exc):
                    event(log, logging.ERROR, action, error=type(exc).__name__)
                    return False
                await asyncio.sleep(delay)
            else:
                return True
        return False

    def _in_sender(self, call: Callable[[], object]) -> Awaitable[object]:
        return asyncio.get_running_loop().run_in_executor(self._sender, call)

    def _connect_celery(self) -> None:
        try:
            with self._app.producer_or_acquire() as producer:
                producer.connection.ensure_connection(max_retries=1, timeout=1)
        except Exception as exc:  # noqa: BLE001  # any failure here will be met again, and handled, by the first send
            event(log, logging.WARNING, "celery.not_connected", error=type(exc).__name__)
