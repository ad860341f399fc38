"""One request that a bridge is working on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.protocol import JobFrame, ResultFrame
from ops.controlplane.mailbox import Mailbox
from ops.controlplane.parts import Arriving
from tasks.contract import JobKind, Priority, Usage


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client wants, read and checked as far as placement needs it. `body` goes to the worker untouched.

    `kids`: the workload keys that a sealed body was sealed to. `labels`: what a worker must carry, all of them; they
    come from the API key, never from the request. `parts` travel in pieces; a body that does is the part
    `body`, and `body` then only says what a bridge must know. `trace`: the W3C trace context of the request.
    """

    kind: JobKind
    model: str
    stream: bool
    body: dict[str, Any] = field(repr=False)
    pin: str | None = None
    affinity: str | None = None
    sealed: bool = False
    kids: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    priority: Priority = Priority.INTERACTIVE
    parts: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    trace: str = ""


class JobState(StrEnum):
    OPEN = "open"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Job:
    """Open until the hub ends it; only the hub changes it, except for `told` and `reader`, which the handler keeps.

    `id` is the id on the wire: the request's, unless the job had to be sent again. Times are monotonic: `heard` when
    the bridge last said something about the job, `told` when the client last took something, `nudged` when the
    handler was last asked to send a sign of life. `reader` is the task to cancel when the client does not
    read, and `dropped` says that this was done. `code`: of the error it ended with, "" for none.
    """

    __slots__ = (
        "acked",
        "arriving",
        "ask",
        "bridge",
        "code",
        "created",
        "dropped",
        "first_chunk",
        "heard",
        "held",
        "id",
        "key_id",
        "last_seq",
        "mailbox",
        "nudged",
        "opened",
        "reader",
        "request_id",
        "resends",
        "state",
        "told",
        "usage",
        "worker_id",
        "worker_name",
    )

    def __init__(
        self, request_id: str, ask: Ask, *, bridge: tuple[str, str], key_id: str, created: int, now: float
    ) -> None:
        self.id = request_id
        self.request_id = request_id
        self.ask = ask
        self.bridge = bridge
        self.key_id = key_id
        self.created = created
        self.opened = self.heard = self.told = now
        self.nudged: float | None = None
        self.state = JobState.OPEN
        self.last_seq = -1
        self.acked = -1
        self.first_chunk: str | None = None
        self.worker_id: str | None = None
        self.worker_name: str | None = None
        self.code = ""
        self.usage: Usage | None = None
        self.resends = 0
        self.dropped = False
        self.reader: asyncio.Task[None] | None = None
        self.arriving: Arriving | None = None
        self.held: ResultFrame | None = None
        """A result whose large reply is still arriving."""
        self.mailbox = Mailbox()

    def __repr__(self) -> str:
        return f"Job({self.id}, {self.state}, seq={self.last_seq})"

    @property
    def worked_on(self) -> bool:
        """A worker has claimed it."""
        return self.worker_id is not None

    @property
    def may_start_over(self) -> bool:
        """Nothing reached the client. A sealed request is sent once only: its reply's key may have been used."""
        return self.first_chunk is None and not self.ask.sealed

    def start_over(self, resend: int) -> None:
        """The bridge lost it before anything reached the client: a new id, so that old events cannot mix in."""
        self.resends = resend
        self.id = f"{self.request_id}.{resend}"
        self.last_seq = self.acked = -1
        self.arriving = self.held = None
        self.worker_id = self.worker_name = None

    def frame(self, deadline: float | None) -> JobFrame:
        ask = self.ask
        return JobFrame(
            job_id=self.id,
            kind=ask.kind,
            model=ask.model,
            stream=ask.stream,
            body=ask.body,
            created=self.created,
            tenant=self.key_id,
            priority=ask.priority,
            deadline=deadline,
            pin=ask.pin,
            affinity=ask.affinity,
            kids=ask.kids,
            labels=ask.labels,
            blobs=tuple(ask.parts),
            traceparent=ask.trace,
        )


def new_request_id() -> str:
    return f"req_{secrets.token_hex(12)}"
