"""What a worker says of a job, from `claimed` to the one event that ends it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tasks.contract.job import BlobRef, JsonObject
from tasks.frozen import Frozen


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
