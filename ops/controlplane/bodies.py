"""Reading a request's body within limits of size and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from ops.controlplane.config import Limits
from ops.controlplane.requests import parse_object
from tasks.blobs import KIB, MIB
from tasks.contract import JobKind
from tasks.errors import BadRequestError, JobTimeoutError

_SMALL = 64 * KIB  # of a request that is no job
_LESS: dict[JobKind, int] = {JobKind.COMPLETION: 8 * MIB, JobKind.SPEECH: MIB}
"""Kinds of jobs that never need as much as `Limits.body_bytes`."""


def limits_of(kind: JobKind, limits: Limits) -> Limits:
    return replace(limits, body_bytes=min(limits.body_bytes, _LESS.get(kind, limits.body_bytes)))


class Paced:
    """A `receive` that gives a slow sender up: JobTimeoutError(`request_timeout`, 408)."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._idle_s = limits.body_idle_s
        self._until = time.monotonic() + limits.body_s

    async def __call__(self) -> Message:
        left = min(self._idle_s, self._until - time.monotonic())
        try:
            async with asyncio.timeout(left):
                return await self._receive()
        except TimeoutError:
            raise JobTimeoutError("the body of the request came too slowly", code="request_timeout") from None


async def read_body(receive: Receive, headers: Mapping[str, str], limits: Limits) -> bytes:
    """The whole body. Raises BadRequestError(`request_too_large`) as soon as that is clear, and ClientDisconnect.

    The server reads and drops what is left, so a client that is still sending gets to see the answer. Raises
    JobTimeoutError(`request_timeout`) for one that hardly sends.
    """
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.body_bytes:
        raise _too_large(limits)
    paced = Paced(receive, limits)
    kept = bytearray()
    more = True
    while more:
        message = await paced()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        kept += message.get("body", b"")
        if len(kept) > limits.body_bytes:
            raise _too_large(limits)
        more = bool(message.get("more_body"))
    return bytes(kept)


async def read_object(request: Request) -> dict[str, Any]:
    """The small JSON object a request carries; none at all counts as an empty one. Raises BadRequestError."""
    raw = await read_body(request.receive, request.headers, Limits(body_bytes=_SMALL))
    return parse_object(raw) if raw else {}


def _too_large(limits: Limits) -> BadRequestError:
    return BadRequestError(
        f"the request body is larger than {limits.body_bytes / MIB:g} MiB, the most this endpoint takes; "
        "shorten the conversation, or send less at once",
        code="request_too_large",
    )
