"""One job, from its message to its last event.

    message ─► claim ─► unseal ─► claimed ─► runtime.serve ─► finished | failed ─► wait until it is out
                 └ not ours any more: drop

Whatever goes wrong on the way, the bridge gets exactly one terminal event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Protocol

import redis
from pydantic import ValidationError

from tasks import keys
from tasks.contract import CONTRACT_VERSION, Job, understands
from tasks.errors import PendraError, SealError, UnavailableError, WorkerError
from tasks.logs import event, where
from tasks.redis_client import retryable
from tasks.scripts import Claim, WorkerScripts
from tasks.sealing import Opener, payload_aad
from tasks.tracing import NO_TRACER, Tracer
from worker.backends.base import CancelToken, Reply
from worker.parts import Parts
from worker.private.jobs import PrivateJobs
from worker.private.keys import Keyring
from worker.private.veil import veiled
from worker.publisher import Publisher
from worker.reply import JobReply
from worker.running import Running
from worker.traces import JobTrace

_LOG = logging.getLogger("pendra.worker")
_CLAIM_TRIES_S = (0.05, 0.2, 0.5, 1.0, 2.0)  # longer makes no sense: the bridge has sent the job elsewhere by then


class JobServer(Protocol):
    """What this module needs of the runtime: run the job to its terminal event, or raise."""

    def serve(self, job: Job, reply: Reply, cancel: CancelToken) -> None: ...


class Server:
    """`serve` blocks for as long as the job runs; many threads call it at once. Never raises."""

    def __init__(
        self,
        client: redis.Redis,
        worker_id: str,
        opener: Opener,
        publisher: Publisher,
        runtime: JobServer,
        running: Running,
        keyring: Keyring,
        labels: Iterable[str] = (),
        *,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._client = client
        self._scripts = WorkerScripts(client)
        self._worker_id = worker_id
        self._opener = opener
        self._publisher = publisher
        self._runtime = runtime
        self._running = running
        self._labels = frozenset(labels)
        self._tracer = tracer
        self._parts = Parts(client, opener)
        self._private = PrivateJobs(client, keyring)

    def serve(self, job_id: str, attempt: int) -> None:
        token = self._running.enter(job_id, attempt)
        if token is None:
            event(_LOG, logging.WARNING, "job.dropped", job_id=job_id, attempt=attempt, why="runs here already")
            return
        try:
            payload = self._claim(job_id, attempt)
            if payload is not None:
                self._run(job_id, attempt, payload, token)
        finally:
            self._running.leave(job_id, attempt)

    def _claim(self, job_id: str, attempt: int) -> bytes | None:
        """The sealed job, or None when it is not ours to run (logged)."""
        for pause in (*_CLAIM_TRIES_S, None):
            try:
                verdict, payload = self._scripts.claim(job_id, attempt, self._worker_id)
                if verdict is Claim.EXPIRED:
                    self._scripts.release(job_id, attempt, worker_id=self._worker_id)
            except (redis.RedisError, OSError) as exc:
                if pause is None or not retryable(exc):
                    error = type(exc).__name__
                    event(_LOG, logging.ERROR, "job.unclaimed", job_id=job_id, attempt=attempt, error=error)
                    return None
                time.sleep(pause)
            else:
                if verdict is Claim.OK:
                    return payload
                event(_LOG, logging.INFO, "job.dropped", job_id=job_id, attempt=attempt, why=verdict.value)
                return None
        return None

    def _run(self, job_id: str, attempt: int, payload: bytes, token: CancelToken) -> None:
        began, began_ns = time.monotonic(), time.time_ns()
        try:
            job = self._unseal(job_id, payload)
        except PendraError as exc:
            self._refuse(job_id, attempt, exc)
            return
        reply = self._publisher.open(job)
        reply.stop = token.cancel
        trace = JobTrace(self._tracer, job, self._worker_id, private=reply.private, began=began_ns)
        reply.claimed()
        event(_LOG, logging.INFO, "job.started", job_id=job_id, attempt=attempt, model=job.model, kind=job.kind)
        outcome = self._attempt(job, reply, token)
        trace.ended(reply.closing, time.time_ns())
        reply.wait()
        ms = round((time.monotonic() - began) * 1000, 1)
        event(_LOG, logging.INFO, "job.ended", job_id=job_id, attempt=attempt, outcome=outcome, ms=ms)

    def _attempt(self, job: Job, reply: JobReply, token: CancelToken) -> str:
        """Run it; what it raises becomes its terminal event. Returns a word for the log."""
        try:
            self._hand_on(self._parts.attached(job), reply, token)
        except PendraError as exc:
            reply.fail(veiled(exc) if reply.private else exc)
            return exc.code
        except Exception as exc:  # noqa: BLE001  # its words may quote the prompt, so only its place is told
            event(_LOG, logging.ERROR, "job.crashed", job_id=job.job_id, error=type(exc).__name__, at=where(exc))
            reply.fail(WorkerError("the worker failed while it served this request; its log says where"))
            return "crashed"
        if not reply.closed:
            event(_LOG, logging.ERROR, "job.unanswered", job_id=job.job_id, model=job.model)
            reply.fail(WorkerError("the worker ended this request without an answer"))
            return "unanswered"
        return "answered"

    def _hand_on(self, job: Job, reply: JobReply, token: CancelToken) -> None:
        if not self._labels.issuperset(job.labels):  # started anew with other labels while it was on its way
            raise UnavailableError("the worker lacks a label that this request demands", code="no_labelled_worker")
        if reply.private:
            opened, sealed_reply = self._private.open(job, reply)
            self._runtime.serve(opened, sealed_reply, token)
        else:
            self._runtime.serve(job, reply, token)

    def _unseal(self, job_id: str, payload: bytes) -> Job:
        """Raises SealError, or UnavailableError for a job of a contract this build does not speak."""
        try:
            job = Job.model_validate_json(self._opener.open(payload, payload_aad(job_id)))
        except ValidationError:
            raise _stranger("this worker does not understand the job: bridge and worker versions differ") from None
        if not understands(job.v):
            raise _stranger(f"the job has contract version {job.v}, this worker speaks {CONTRACT_VERSION}")
        return job

    def _refuse(self, job_id: str, attempt: int, error: PendraError) -> None:
        """A job that does not open cannot say who waits for it; its hash can."""
        level = logging.ERROR if isinstance(error, SealError) else logging.WARNING
        event(_LOG, level, "job.unreadable", job_id=job_id, attempt=attempt, code=error.code, why=error.message)
        try:
            bridge_id = self._client.hget(keys.job(job_id), "bridge")
        except (redis.RedisError, OSError):
            return  # the bridge notices by itself that nobody claimed the job
        if isinstance(bridge_id, bytes):
            stub = Job(job_id=job_id, attempt=attempt, model="", body={}, created=0, bridge_id=bridge_id.decode())
            reply = self._publisher.open(stub)
            reply.fail(error)
            reply.wait()


def _stranger(why: str) -> UnavailableError:
    return UnavailableError(f"{why}; upgrade the older of the two", code="version_mismatch")
