"""Wire protocol v1 between the API and a bridge: every frame of `/ws/gpu`, both directions.

Frames are JSON text messages, one object each, discriminated by `type`. `docs/protocol.md` is generated from
this module. The API opens with `challenge`; the bridge answers with a signed `hello`; the API says `welcome` or
closes with a `CloseCode` and a reason in words. Times are seconds since the epoch; binary is base64.

`seq` counts a job's frames from 0 without holes and continues across attempts; `ack` tells the bridge what it may
forget; `resume` (bridge) and `welcome.resume` (API) list each open job's last seq after a reconnect.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tasks.contract import BlobRef, InstallProgress, JobKind, ModelInfo, Notice, Priority, Timing, Usage
from tasks.errors import BadRequestError
from tasks.figures import GpuFigures

PROTOCOL_VERSION = 1
MIN_PROTOCOL_VERSION = 1
MAX_CLOCK_SKEW_S = 300
MAX_FRAME_BYTES = 1 << 20
MAX_BLOB_BYTES = 256 * 1024
MAX_COUNT = 2**53  # what JSON numbers are good for (RFC 8259 §6)
PATH = "/ws/gpu"


class CloseCode(IntEnum):
    """WebSocket close codes of ours (4000–4999 is the private range, RFC 6455 §7.4.2)."""

    BAD_FRAME = 4400
    UNKNOWN_KEY = 4401
    BAD_SIGNATURE = 4402
    REVOKED = 4403
    REPLAYED_NONCE = 4404
    CLOCK_SKEW = 4405
    OLD_PROTOCOL = 4406
    PENDING = 4407
    HANDSHAKE_TIMEOUT = 4408
    REPLACED = 4409
    SHUTTING_DOWN = 4503


class Frame(BaseModel):
    """`NaN` and `Infinity`, which readers of JSON in Python let through, are malformed: no limit holds for them."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)


# ---------------------------------------------------------------- API → bridge


class Challenge(Frame):
    """First frame on every connection. `nonce` is 32 random bytes, good for one hello."""

    type: Literal["challenge"] = "challenge"
    nonce: str
    time: float
    protocol: int = PROTOCOL_VERSION


class JobMark(Frame):
    """An open job and the last seq the sender has of it (-1: nothing yet)."""

    job_id: str
    seq: int = -1


class Welcome(Frame):
    """The hello was accepted. `resume` lists the jobs the API still waits for on this bridge."""

    type: Literal["welcome"] = "welcome"
    session: str
    resume: tuple[JobMark, ...] = ()


class JobFrame(Frame):
    """A job to run. `body` is OpenAI-shaped, or `{"pendra_encrypted": …}` untouched.

    `tenant` is an opaque name of the API key (fair share); `priority` batch goes after interactive, until it has
    waited for 30 s; `deadline` is when an answer is of no more use; `pin` demands one worker; `affinity` is an opaque
    token: equal tokens should meet the same KV cache. `blobs` names parts that follow as `blob` frames; the
    part `body` is the body itself, and `laid` the bridge's own note of where they lie (empty on the wire). `kids`
    are those of a sealed body: only a worker that holds one of these keys may run it. `traceparent` is the W3C trace
    context that the job's spans belong to; one that is not well-formed is as good as none.
    """

    type: Literal["job"] = "job"
    job_id: str = Field(min_length=1, max_length=128)
    kind: JobKind
    model: str = Field(min_length=1, max_length=256)
    stream: bool = False
    body: dict[str, Any] = Field(repr=False)
    created: int
    tenant: str = ""
    priority: Priority = Priority.INTERACTIVE
    deadline: float | None = None
    pin: str | None = None
    affinity: str | None = None
    labels: tuple[str, ...] = ()
    blobs: tuple[str, ...] = Field(default=(), max_length=8)
    laid: tuple[BlobRef, ...] = ()
    kids: tuple[str, ...] = ()
    traceparent: str = ""


class Cancel(Frame):
    """Nobody waits for the job (or install, by request id) any more. Unknown ids are ignored.

    `discard`: of an install, throw away what came so far.
    """

    type: Literal["cancel"] = "cancel"
    job_id: str
    discard: bool = False


class Install(Frame):
    """Install a catalogue model on a worker's host, or on all hosts (`worker_id` None). A known id changes nothing.

    `variant` is that of the catalogue's entry; one without `gguf_url` only names the `quantisation`. For another
    `backend` than `pendra`, `name` is what that calls the model.
    """

    type: Literal["install"] = "install"
    request_id: str
    model: str
    worker_id: str | None = None
    backend: str | None = None
    variant: dict[str, Any] = {}


class Uninstall(Frame):
    type: Literal["uninstall"] = "uninstall"
    request_id: str
    model: str
    worker_id: str | None = None
    backend: str | None = None
    force: bool = False


class Drain(Frame):
    """Stop taking new jobs: on one worker, or on the whole bridge (`worker_id` None)."""

    type: Literal["drain"] = "drain"
    worker_id: str | None = None


class Ack(Frame):
    """The API has everything of the job up to and including `seq`."""

    type: Literal["ack"] = "ack"
    job_id: str
    seq: int


class Blob(Frame):
    """A piece of a binary part, both directions, at most 256 KB before base64. `last` ends the part."""

    type: Literal["blob"] = "blob"
    job_id: str
    name: str
    index: int
    data: str = Field(repr=False)
    last: bool = False


# ---------------------------------------------------------------- bridge → API


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


ApiFrame = Annotated[
    Challenge | Welcome | JobFrame | Cancel | Install | Uninstall | Drain | Ack | Blob,
    Field(discriminator="type"),
]
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
_API: TypeAdapter[ApiFrame] = TypeAdapter(ApiFrame)
_BRIDGE: TypeAdapter[BridgeFrame] = TypeAdapter(BridgeFrame)


def decode_api(text: str | bytes) -> ApiFrame:
    """A frame the API sent. Raises BadRequestError(`bad_frame`) naming the field, never quoting the content."""
    try:
        return _API.validate_json(text)
    except ValidationError as exc:
        raise _bad_frame(exc) from None


def decode_bridge(text: str | bytes) -> BridgeFrame:
    """A frame a bridge sent. Raises like `decode_api`."""
    try:
        return _BRIDGE.validate_json(text)
    except ValidationError as exc:
        raise _bad_frame(exc) from None


def encode(frame: Frame) -> str:
    return frame.model_dump_json()


def signed_bytes(nonce: str, worker_id: str, time: float, protocol: int) -> bytes:
    """What `hello.signature` covers: the fields joined by NUL under a domain-separating label."""
    return b"\0".join(
        [b"pendra-hello-v1", nonce.encode(), worker_id.encode(), f"{time:.3f}".encode(), b"%d" % protocol]
    )


def _bad_frame(exc: ValidationError) -> BadRequestError:
    first = exc.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "frame"
    what = "unknown type of frame" if first["type"] == "union_tag_invalid" else first["msg"]  # that one quotes
    return BadRequestError(f"malformed frame: {where}: {what}", code="bad_frame", param=where)
