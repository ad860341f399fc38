"""The frames that a bridge sends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bridge.protocol.frame import MAX_COUNT, Blob, Frame, JobMark
from tasks.contract import BlobRef, InstallProgress, ModelInfo, Notice, Timing, Usage
from tasks.figures import GpuFigures


class Hello(Frame):
    """The bridge proves itself: Ed25519 over `signed_bytes(nonce, worker_id, time, protocol)`."""

    type: Literal["hello"] = "hello"
    worker_id: str = Field(min_length=1, max_length=128)
    name: str = ""
    version: str = ""
    public_key: str
    nonce: str
    time: float
    protocol: int
    signature: str


class Resume(Frame):
    """Right after `welcome`: the jobs the bridge holds, with the last seq it has sent or can send."""

    type: Literal["resume"] = "resume"
    jobs: tuple[JobMark, ...] = ()


class WorkerAdvert(Frame):
    """One serving process, listed to the API as a worker of its own (`wrk-…-gpu0`).

    `loaded`: those of `models` it can answer with at once. `tokens_per_second`: what it makes for all bridges, as the
    mean of the last seconds (of external servers: what this bridge streams from them).
    """

    id: str
    name: str
    node: str
    version: str
    device: str
    role: str = "worker"
    slots_total: int
    slots_busy: int
    models: tuple[str, ...] = ()
    draining: bool = False
    labels: tuple[str, ...] = ()
    kids: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    tokens_per_second: float = 0.0
    gpu: tuple[GpuFigures, ...] = ()


class Workers(Frame):
    """All workers of the fleet now; replaces the list sent before."""

    type: Literal["workers"] = "workers"
    workers: tuple[WorkerAdvert, ...] = ()


class Models(Frame):
    """All models the fleet can serve now; replaces the list sent before."""

    type: Literal["models"] = "models"
    models: tuple[ModelInfo, ...] = ()


class Capacity(Frame):
    """How full the fleet is: slots, and jobs waiting in the bridge."""

    type: Literal["capacity"] = "capacity"
    slots_total: int
    slots_busy: int
    waiting: int


class WorkloadKey(Frame):
    kid: str
    public_key: str


class Keys(Frame):
    """The fleet's private-inference public keys (X25519, base64)."""

    type: Literal["keys"] = "keys"
    keys: tuple[WorkloadKey, ...] = ()


class Accepted(Frame):
    """The bridge owns the job now. `position`: how many of the waiting jobs go before it, if nobody else comes."""

    type: Literal["accepted"] = "accepted"
    job_id: str
    position: int = 0


class ChunkEvent(Frame):
    """`data` is one ready SSE payload."""

    job_id: str
    seq: int
    data: str = Field(repr=False)


class ChunkFrame(Frame):
    """Pieces of streamed replies: everything one decode step produced, in order within each job."""

    type: Literal["chunk"] = "chunk"
    events: tuple[ChunkEvent, ...]


class ProgressFrame(Frame):
    """A job (or install, by request id) moved: `stage` claimed, loading, prefill, resolving, downloading, …

    Of an install: `stage` and `fraction` are the slowest host's, `detail` is what one host says of itself (bytes,
    bytes a second, seconds left). Only the newest counts, so its `seq` may skip numbers.
    """

    type: Literal["progress"] = "progress"
    job_id: str
    seq: int
    stage: str
    fraction: float = 0.0
    worker_id: str | None = None
    worker_name: str | None = None
    detail: InstallProgress | None = None


class ResultFrame(Frame):
    """The job ended well. `data` is the JSON reply of a non-streaming job; None after a stream.

    `blob`: the reply is large; its UTF-8 bytes come as `blob` frames of this name, before or after this frame, and
    begin anew at index 0 after a reconnect. The API acknowledges `seq` when it has them all.
    """

    type: Literal["result"] = "result"
    job_id: str
    seq: int
    worker_id: str
    worker_name: str = ""
    worker_version: str = ""
    data: str | None = Field(default=None, repr=False)
    blob: BlobRef | None = None
    timing: Timing = Timing()
    queue_wait_ms: float | None = None
    notice: Notice | None = None


class ErrorFrame(Frame):
    """The job ended badly. `status` is the HTTP status to answer with while none has been sent.

    A job that was refused because too many wait (429) says after how many seconds to try again (`retry_after`), and
    which place in the queue it would have had (`position`, from 1).
    """

    type: Literal["error"] = "error"
    job_id: str
    seq: int
    code: str
    message: str
    status: int
    param: str | None = None
    retry_after: float | None = None
    position: int | None = None
    worker_id: str | None = None
    worker_name: str | None = None


class UsageFrame(Frame):
    """Token counts of a finished job, for metering; sent before its `result`."""

    type: Literal["usage"] = "usage"
    job_id: str
    model: str
    worker_id: str
    usage: Usage


class AuditCheckpoint(Frame):
    """The head of the bridge's audit log: `head` is the SHA-256 of line `line` of the log `log`.

    `signature`: Ed25519 by the bridge's key over these fields (`bridge.audit_chain`). The API keeps all of them, so
    that nobody on the bridge's host can shorten or rewrite the log unseen. Sent when there are new lines, about every
    minute.
    """

    type: Literal["audit_checkpoint"] = "audit_checkpoint"
    log: str = Field(min_length=1, max_length=128)
    line: int = Field(ge=0, le=MAX_COUNT)
    head: str = Field(pattern="^[0-9a-f]{64}$")
    time: float
    public_key: str = Field(max_length=64)
    signature: str = Field(max_length=128)


BridgeFrame = Annotated[
    Hello
    | Resume
    | Workers
    | Models
    | Capacity
    | Keys
    | Accepted
    | ChunkFrame
    | ProgressFrame
    | ResultFrame
    | ErrorFrame
    | UsageFrame
    | AuditCheckpoint
    | Blob,
    Field(discriminator="type"),
]
