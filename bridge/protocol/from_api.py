"""The frames that the API sends."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bridge.protocol.frame import Blob, Frame, JobMark
from bridge.protocol.handshake import PROTOCOL_VERSION
from tasks.contract import BlobRef, JobKind, Priority


class Challenge(Frame):
    """First frame on every connection. `nonce` is 32 random bytes, good for one hello."""

    type: Literal["challenge"] = "challenge"
    nonce: str
    time: float
    protocol: int = PROTOCOL_VERSION


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
    variant: dict[str, Any] = Field(default_factory=dict)


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


ApiFrame = Annotated[
    Challenge | Welcome | JobFrame | Cancel | Install | Uninstall | Drain | Ack | Blob,
    Field(discriminator="type"),
]
