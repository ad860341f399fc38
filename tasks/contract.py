"""What bridge and workers say to each other: jobs, events and worker advertisements.

Everything here is frozen and versioned (`CONTRACT_VERSION`); a worker one minor version older or newer keeps
working because unknown fields are ignored and new fields have defaults. These models are what travels *inside*
the fleet seal (`tasks.sealing`); the unsealed parts of a message are only ids and sizes (`tasks.events`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from tasks.figures import EngineFigures, GpuFigures, LoadFigures
from tasks.frozen import Frozen as Frozen  # noqa: PLC0414  # exported: all models of the contract are made of it

CONTRACT_VERSION = 1
"""One more with every minor version that changes the contract."""

JsonObject = dict[str, Any]


def understands(version: object) -> bool:
    """Whether we speak with who speaks this version: one more or one less than ours."""
    return isinstance(version, int) and abs(version - CONTRACT_VERSION) <= 1


class JobKind(StrEnum):
    """What is asked for. The values are Pendra's private-inference task types, plus the legacy completion."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    IMAGE = "image_generation"
    TRANSCRIPTION = "transcription"
    SPEECH = "speech"


class Priority(StrEnum):
    INTERACTIVE = "interactive"
    BATCH = "batch"


class Resume(Frozen):
    """Where an earlier attempt stopped: the new worker continues after exactly this, in the same reply.

    `token_ids` are the completion's tokens whose text was delivered, as ids (text does not always tokenise back
    the same way); with several choices they are the worker's own numbers (`worker.generate.resumption`). Of a private
    reply they are in `steps`, sealed (`worker.private.frames`), and only a worker with the key `kid` can go on with
    it.
    """

    token_ids: tuple[int, ...] = Field(default=(), repr=False)
    kid: str = ""
    steps: tuple[bytes, ...] = Field(default=(), repr=False)


class BlobRef(Frozen):
    """A large part of a job or reply, kept sealed in Redis beside it (`tasks.blobs`): so many bytes and pieces."""

    name: str
    size: int
    pieces: int


class Job(Frozen):
    """One unit of work for a worker, sealed under the job id as associated data.

    `body` is the OpenAI-shaped request body, or the untouched private-inference envelope under
    `pendra_encrypted`. Times are seconds since the epoch. `first_seq` is the seq of the first event this attempt
    publishes (0 unless an earlier attempt already delivered something). `blobs` name what did not fit; the worker
    fetches them before it serves: the part `body` becomes the body, all others are found in `parts`. `private`: the
    body, wherever it is, is an envelope. `labels`: a worker without one of these must not run it. `traceparent`: the
    W3C trace context that the worker's spans belong to.
    """

    v: int = CONTRACT_VERSION
    job_id: str
    attempt: int = 0
    kind: JobKind = JobKind.CHAT
    model: str
    stream: bool = False
    body: JsonObject = Field(repr=False)
    created: int
    bridge_id: str
    deadline: float | None = None
    first_seq: int = 0
    resume: Resume | None = Field(default=None, repr=False)
    private: bool = False
    labels: tuple[str, ...] = ()
    blobs: tuple[BlobRef, ...] = ()
    traceparent: str = ""
    parts: dict[str, bytes] = Field(default_factory=dict, repr=False, exclude=True)


class Usage(Frozen):
    """Token counts of one reply, OpenAI's meaning."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def openai(self) -> JsonObject:
        usage: JsonObject = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
        if self.reasoning_tokens:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.reasoning_tokens}
        return usage


class Timing(Frozen):
    """What the worker measured, in milliseconds (rate in tokens per second). None = not measured."""

    ttft_ms: float | None = None
    tokens_per_second: float | None = None
    worker_queue_wait_ms: float | None = None
    model_load_ms: float | None = None
    cold_start: bool | None = None


class Notice(Frozen):
    code: str
    message: str


class _Event(Frozen):
    job_id: str
    attempt: int
    seq: int


class Claimed(_Event):
    """A worker took the job. First event of every attempt. `epoch`: of its process (see `WorkerInfo`)."""

    type: Literal["claimed"] = "claimed"
    worker_id: str
    worker_name: str = ""
    epoch: str = ""


class Progress(_Event):
    """Something moved although no token came yet: `stage` is loading or prefill; `fraction` 0–1."""

    type: Literal["progress"] = "progress"
    stage: str
    fraction: float = 0.0


class Chunk(_Event):
    """A piece of a streamed reply: `data` is one ready SSE payload (JSON text), `tokens` the ids it delivers.

    What all chunks so far have shown must be what their tokens give, so that another worker can go on after them.
    None: nobody else could (another server made the text, and its tokens are not known).

    A private reply's chunk is one sealed frame, under the workload key `kid`, and its tokens are in `step`, sealed,
    too; `whole`: the step replaces all steps before it.
    """

    type: Literal["chunk"] = "chunk"
    data: str = Field(repr=False)
    tokens: tuple[int, ...] | None = Field(default=(), repr=False)
    kid: str = ""
    step: bytes = Field(default=b"", repr=False)
    whole: bool = False


class Finished(_Event):
    """The job ended well. `data` is the whole JSON reply of a non-streaming job, None on a stream.

    `blob`: the reply is large and lies in Redis as `data`'s UTF-8 bytes (`tasks.blobs`).
    """

    type: Literal["finished"] = "finished"
    data: str | None = Field(default=None, repr=False)
    blob: BlobRef | None = None
    usage: Usage = Usage()
    timing: Timing = Timing()
    notice: Notice | None = None


class Failed(_Event):
    """The job ended badly. `retryable`: another worker may well succeed (the bridge decides)."""

    type: Literal["failed"] = "failed"
    code: str
    message: str
    param: str | None = None
    retryable: bool = False


Event = Annotated[Claimed | Progress | Chunk | Finished | Failed, Field(discriminator="type")]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
TERMINAL = (Finished, Failed)


BUILT_IN = "pendra"  # `ModelInfo.backend` of what our own engines serve


class ModelInfo(Frozen):
    """One model a worker can serve. `loaded`: in memory now.

    `features`: what it does besides its capability (`vision`, `tools`, `thinking`); None = nobody says.
    `fits`: the worker's memory is large enough for it when nothing else is there, as far as it knows.
    """

    id: str
    capability: str = "chat"
    backend: str = BUILT_IN
    context_length: int | None = None
    parameter_size: str | None = None
    quantisation: str | None = None
    family: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    loaded: bool = False
    features: tuple[str, ...] | None = None
    fits: bool = True

    @property
    def ready(self) -> bool:
        """It can take a job now: it is in memory, or the server that has it loads it by itself."""
        return self.loaded or self.backend != BUILT_IN


class BackendState(StrEnum):
    FOUND = "found"  # served
    HELD = "held"  # it answers, but came and went too often lately to be offered
    MISSING = "missing"
    OFF = "off"


class BackendReport(Frozen):
    """What a host's proxy worker knows of one kind of external server.

    `why`: what is wrong, in words for an operator ("" = nothing). `url`: where it is, or where it was configured.
    """

    product: str
    state: BackendState
    url: str = ""
    configured: bool = False
    version: str = ""
    latency_ms: float | None = None
    models: tuple[ModelInfo, ...] = ()
    why: str = ""


class WorkerInfo(Frozen):
    """A serving process's heartbeat: who it is, what it serves and how full it is.

    Written every second with a lease (`tasks.keys.WORKER_LEASE_S`); content-free, so unsealed. `epoch` is new at
    every start of the process: a lease with another epoch is another process. `fleet_keys`: ids of the fleet keys it
    has, the one that it seals with first.
    """

    v: int = CONTRACT_VERSION
    worker_id: str
    epoch: str
    name: str
    node: str
    role: str = "worker"
    pid: int
    version: str
    device: str
    slots_total: int
    slots_busy: int = 0
    models: tuple[ModelInfo, ...] = ()
    draining: bool = False
    started_at: float = 0.0
    log: str | None = None
    labels: tuple[str, ...] = ()
    kids: tuple[str, ...] = ()
    public_keys: tuple[str, ...] = ()
    backends: tuple[BackendReport, ...] = ()
    engines: tuple[EngineFigures, ...] = ()
    loads: tuple[LoadFigures, ...] = ()
    gpu: tuple[GpuFigures, ...] = ()
    fleet_keys: tuple[str, ...] = ()


class JobRow(Frozen):
    """One open job as people see it: nothing of its content. Times in seconds, `tokens` delivered so far."""

    job_id: str
    model: str
    state: str
    attempt: int = 0
    worker_id: str = ""
    age_s: float = 0.0
    tokens: int = 0


class Overview(Frozen):
    """What a bridge has open, the oldest first; `total` may be more than the rows that are listed.

    `fleet_keys` as in `WorkerInfo`. `waiting`: jobs that no worker has a slot for. `pace`: tokens a second
    that each worker makes, by worker id, as `bridge.pace` counts them.
    """

    bridge_id: str
    total: int
    rows: tuple[JobRow, ...] = ()
    waiting: int = 0
    pace: Mapping[str, float] = {}
    version: str = ""
    fleet_keys: tuple[str, ...] = ()


class InstallRequest(Frozen):
    """What `tasks.install_model` is asked for; its arguments are these fields, plain JSON (docs/operations.md).

    Either `model` is in the catalogue (`variant`: which quantisation), or `source` says where the file is. Sources
    hold no passwords: task arguments are visible to everybody who watches the fleet.
    """

    model: str = Field(min_length=1, max_length=256)
    source: str | None = Field(default=None, repr=False)
    sha256: str | None = None
    size: int | None = None
    purpose: Literal["chat", "embedding", "rerank", "image", "transcription"] | None = None
    licence: str | None = None
    mirrors: tuple[str, ...] = Field(default=(), repr=False)
    variant: str | None = None
    backend: str | None = None


class InstallProgress(Frozen):
    """How far an install is: the meta of the Celery state PROGRESS, and of SUCCESS's `progress`. Bytes, seconds."""

    model: str
    node: str
    stage: str
    done: int = 0
    total: int | None = None
    rate: float | None = None
    eta: float | None = None

    @property
    def fraction(self) -> float:
        return min(self.done / self.total, 1.0) if self.total else 0.0
