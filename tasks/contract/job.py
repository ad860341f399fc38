"""What is asked of a worker."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from tasks.contract.version import CONTRACT_VERSION
from tasks.frozen import Frozen

JsonObject = dict[str, Any]


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
