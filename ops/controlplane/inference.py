"""The endpoints that need a worker: who asks, for what, to which bridge, and what when the client goes away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from functools import partial

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ops.controlplane.answers import stream, whole
from ops.controlplane.auth import Gate, allow
from ops.controlplane.bodies import Paced, limits_of, read_body
from ops.controlplane.config import Config
from ops.controlplane.errors import Problem, problem_of
from ops.controlplane.hub import Hub
from ops.controlplane.jobs import Ask, Job, new_request_id
from ops.controlplane.reply import Reply
from ops.controlplane.requests import in_parts, parse_ask
from ops.controlplane.traces import RequestTrace
from ops.controlplane.uploads import is_form, read_upload
from tasks import tracing
from tasks.blobs import INLINE_BYTES
from tasks.contract import JobKind
from tasks.errors import PendraError
from tasks.logs import event, where
from tasks.tracing import Tracer

log = logging.getLogger("pendra.controlplane")

PLACEMENT_HEADER = "x-pendra-placement"


class Inference:
    """ASGI endpoint for one kind of job."""

    def __init__(
        self, kind: JobKind, config: Config, gate: Gate, hub: Hub, tracer: Tracer = tracing.NO_TRACER
    ) -> None:
        self._kind = kind
        self._limits = limits_of(kind, config.limits)
        self._gate = gate
        self._hub = hub
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        headers = Headers(scope=scope)
        reply = Reply(send, new_request_id())
        trace = RequestTrace(self._tracer, headers, self._kind, reply.request_id)
        try:
            key = self._gate.user(scope)
            self._gate.spend(key)
            ask = await self._ask(receive, headers, key.hash)
            allow(key, ask.model)
            ask = replace(ask, labels=key.scope.only_on, trace=trace.traceparent)
            job = self._hub.open(reply.request_id, ask, key)
        except PendraError as exc:
            problem = problem_of(exc)
            _log_refused(reply.request_id, self._kind, problem)
            trace.refused(problem)
            await reply.problem(problem)
            return
        except ClientDisconnect:
            trace.gone()
            return
        with_placement = not ask.sealed or PLACEMENT_HEADER in headers
        try:
            await self._answer(job, reply, receive, with_placement=with_placement)
        finally:
            trace.done(job)
        _log_done(job, started)

    async def _ask(self, receive: Receive, headers: Headers, secret: str) -> Ask:
        if self._kind is JobKind.TRANSCRIPTION and is_form(headers):
            return await read_upload(Paced(receive, self._limits), headers)
        raw = await read_body(receive, headers, self._limits)
        parse = partial(parse_ask, self._kind, raw, headers, secret=secret)
        # a body of megabytes takes a while to parse, and meanwhile no stream would move
        ask = parse() if len(raw) <= INLINE_BYTES else await asyncio.to_thread(parse)
        return in_parts(ask, raw)

    async def _answer(self, job: Job, reply: Reply, receive: Receive, *, with_placement: bool) -> None:
        """Carry the job to its end. A client that goes away is a cancel, at once, whatever is being written."""
        job.reader = asyncio.current_task()
        watcher = asyncio.create_task(self._watch(job, receive), name="client-watch")
        try:
            if job.ask.stream:
                await stream(job, reply, with_placement=with_placement)
            else:
                await whole(job, reply)
        except asyncio.CancelledError:
            if not job.dropped:
                raise  # not ours: the server is being stopped
        except Exception as exc:  # noqa: BLE001  # the client is owed an answer whatever went wrong
            event(
                log,
                logging.ERROR,
                "request.crashed",
                request_id=job.request_id,
                error=type(exc).__name__,
                at=where(exc),
            )
            problem = Problem(500, "internal_error", "the API failed at this request; its log says where")
            await reply.problem(problem, stream=job.ask.stream)
        finally:
            watcher.cancel()
            self._hub.leave(job)

    async def _watch(self, job: Job, receive: Receive) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while (await receive())["type"] != "http.disconnect":
                pass
            self._hub.cancel(job)


def _log_refused(request_id: str, kind: JobKind, problem: Problem) -> None:
    event(
        log,
        logging.INFO,
        "request.refused",
        request_id=request_id,
        kind=str(kind),
        status=problem.status,
        code=problem.code,
    )


def _log_done(job: Job, started: float) -> None:
    ask: Ask = job.ask
    event(
        log,
        logging.INFO,
        "request.done",
        request_id=job.request_id,
        kind=str(ask.kind),
        model=ask.model,
        stream=ask.stream,
        outcome=str(job.state),
        worker_id=job.worker_id,
        ms=round(1000 * (time.monotonic() - started)),
    )
