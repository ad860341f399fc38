"""Writing the answer of a worker: as a stream, or whole.

The status line waits for the worker's first piece, its result or an error; only a long silence commits the 200
earlier (`Sign.KEEP_ALIVE`). Either function returns when the answer is complete or the client is gone.
"""

from __future__ import annotations

import time
from typing import Any

from pydantic_core import from_json

from bridge.protocol import ResultFrame
from ops.controlplane.errors import Problem, in_band, problem_of
from ops.controlplane.jobs import Job
from ops.controlplane.mailbox import Ended, Item, Sign
from ops.controlplane.media import is_media, media_of
from ops.controlplane.reply import JSON_TYPE, Reply, placement_headers
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
from tasks.errors import WorkerError

_OBJECT = {JobKind.CHAT: "chat.completion.chunk", JobKind.COMPLETION: "text_completion"}


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
                if not is_media(job.ask):
                    if not reply.started:
                        await reply.start(200, {"content-type": JSON_TYPE})
                    await reply.write(b" ")
                job.told = time.monotonic()
            elif isinstance(item, Problem):
                await reply.problem(item)
                return
            elif isinstance(item, Ended):
                await _end_whole(job, reply, item.result)
                return


async def _end_whole(job: Job, reply: Reply, result: ResultFrame) -> None:
    total_ms = 1000 * (time.monotonic() - job.opened)
    headers = {**placement_headers(result), "server-timing": server_timing(result, total_ms)}
    try:
        if is_media(job.ask):
            media = media_of(job.ask, result.data)
            await reply.whole(media.data, {"content-type": media.content_type, **headers})
        else:
            await reply.json(whole_body(job, result), headers=headers)
    except WorkerError as exc:
        await reply.problem(problem_of(exc))


def whole_body(job: Job, result: ResultFrame) -> dict[str, Any]:
    """The worker's reply with our block beside it. Raises WorkerError when it is no JSON object."""
    try:
        body = from_json(result.data or "")
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
