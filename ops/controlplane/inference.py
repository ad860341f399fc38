"""The endpoints that need a worker: one request in, one reply out, streamed or whole.

The status line is held until the worker's first piece, its result or an error, so that an error the worker finds
is a real HTTP status. Only a long silence commits the 200 earlier (`Sign.KEEP_ALIVE`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from bridge.protocol import ResultFrame
from ops.controlplane.auth import authenticate
from ops.controlplane.config import Config
from ops.controlplane.errors import Problem, in_band, problem_of
from ops.controlplane.hub import Hub
from ops.controlplane.jobs import Ask, Job, new_request_id
from ops.controlplane.keystore import KeyStore
from ops.controlplane.mailbox import Ended, Item, Sign
from ops.controlplane.reply import Reply, placement_headers
from ops.controlplane.requests import parse_ask, read_body
from ops.controlplane.sse import (
    COMMENT,
    DONE,
    chunk_head,
    json_payload,
    notice_chunk,
    server_timing,
    timing_block,
    trailer,
    worker_block,
)
from tasks.contract import JobKind
from tasks.errors import PendraError, WorkerError
from tasks.logs import event, where

log = logging.getLogger("pendra.controlplane")

PLACEMENT_HEADER = "x-pendra-placement"
_OBJECT = {JobKind.CHAT: "chat.completion.chunk", JobKind.COMPLETION: "text_completion"}


class Inference:
    """ASGI endpoint for one kind of job."""

    def __init__(self, kind: JobKind, config: Config, keys: KeyStore, hub: Hub) -> None:
        self._kind = kind
        self._limits = config.limits
        self._keys = keys
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        headers = Headers(scope=scope)
        reply = Reply(send, new_request_id())
        try:
            key = authenticate(headers, self._keys)
            ask = parse_ask(self._kind, await read_body(receive, headers, self._limits), headers, secret=key.hash)
            job = self._hub.open(reply.request_id, ask, key)
        except PendraError as exc:
            problem = problem_of(exc)
            _log_refused(reply.request_id, self._kind, problem)
            await reply.problem(problem)
            return
        except ClientDisconnect:
            return
        with_placement = not ask.sealed or PLACEMENT_HEADER in headers
        await self._answer(job, reply, receive, with_placement=with_placement)
        _log_done(job, started)

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


async def stream(job: Job, reply: Reply, *, with_placement: bool) -> None:
    """Server-sent events until `[DONE]`. All that waits in the mailbox goes out in one write."""
    clock = time.monotonic
    while True:
        items = await job.mailbox.take()
        last = items[-1]
        if not reply.started:
            if isinstance(items[0], Problem):
                await reply.problem(items[0])
                return
            if Sign.GONE in items:
                return
            await reply.start_stream()
        data = b"".join([_bytes_of(job, item, with_placement=with_placement) for item in items])
        if last is Sign.GONE:
            return
        if isinstance(last, Ended | Problem):
            await reply.end(data)
            return
        await reply.write(data)
        job.told = clock()
        if last is not Sign.KEEP_ALIVE:
            job.nudged = None


def _bytes_of(job: Job, item: Item, *, with_placement: bool) -> bytes:
    if type(item) is bytes:
        return item
    if isinstance(item, Problem):
        return json_payload(in_band(item, job.request_id)) + DONE
    if isinstance(item, Ended):
        return stream_end(job, item.result, with_placement=with_placement)
    return COMMENT if item is Sign.KEEP_ALIVE else b""


def stream_end(job: Job, result: ResultFrame, *, with_placement: bool) -> bytes:
    """Notice (never on a sealed stream, where the worker seals its own), trailer, `[DONE]`."""
    ask = job.ask
    head = chunk_head(
        None if ask.sealed else job.first_chunk,
        fallback_id=f"chatcmpl-{job.request_id}",
        kind_object=_OBJECT.get(ask.kind, "chat.completion.chunk"),
        created=job.created,
        model=ask.model,
    )
    notice = notice_chunk(head, result.notice) if result.notice and not ask.sealed else b""
    block: dict[str, Any] = placement_block(job, result) if with_placement else {}
    return notice + trailer(head, {**block, "timing": timing_block(result)}) + DONE


async def whole(job: Job, reply: Reply) -> None:
    """One JSON body; white space before it while the client would otherwise hear nothing for long."""
    while True:
        for item in await job.mailbox.take():
            if item is Sign.GONE:
                return
            if item is Sign.KEEP_ALIVE:
                if not reply.started:
                    await reply.start(200, {"content-type": "application/json"})
                await reply.write(b" ")
                job.told = time.monotonic()
            elif isinstance(item, Problem):
                await reply.problem(item)
                return
            elif isinstance(item, Ended):
                await _end_whole(job, reply, item.result)
                return


async def _end_whole(job: Job, reply: Reply, result: ResultFrame) -> None:
    try:
        body = whole_body(job, result)
    except WorkerError as exc:
        await reply.problem(problem_of(exc))
        return
    total_ms = 1000 * (time.monotonic() - job.opened)
    headers = {**placement_headers(result), "server-timing": server_timing(result, total_ms)}
    await reply.json(body, headers=headers)


def whole_body(job: Job, result: ResultFrame) -> dict[str, Any]:
    """The worker's reply with our block beside it. Raises WorkerError when it is no JSON object."""
    try:
        body = json.loads(result.data or "")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise WorkerError(f"the worker '{result.worker_id}' sent a reply that is not a JSON object")
    theirs = body.get("pendra")
    block = {**theirs} if isinstance(theirs, dict) else {}
    if result.notice and not job.ask.sealed:
        block["notice"] = result.notice.model_dump()
    return {**body, "pendra": {**block, **placement_block(job, result)}}


def placement_block(job: Job, result: ResultFrame) -> dict[str, Any]:
    return {"worker": worker_block(result), "request_id": job.request_id}


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
