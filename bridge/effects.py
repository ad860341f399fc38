"""What the session wants done. It decides and returns these; the shells (client, dispatch, relay) carry them out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bridge.entries import Entry, InstallEntry
from tasks.contract import BlobRef, Job


@dataclass(frozen=True, slots=True)
class Send:
    """Send this frame to the API."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DropLink:
    """Close the link to the API, so that a new one is made."""


@dataclass(frozen=True, slots=True)
class Acquire:
    """Take a slot of one of the candidates (worker id, slots), in this order, and lay the job down.

    Answer with `Attempts.taken`, `none_free` or `dispatch_failed`.
    """

    job: Job
    candidates: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Remember:
    """Write an open job down, so that a bridge that succeeds us can go on with it."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Forget:
    """The job ended."""

    job_id: str


@dataclass(frozen=True, slots=True)
class StoreBlob:
    """Lay a piece of one of the job's parts down, before the job. Answer with `Pieces.stored` or `failed`."""

    job_id: str
    name: str
    index: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DropBlobs:
    """The job's parts (or its large reply) are of no more use: `key` is where they lie."""

    job_id: str
    key: str


@dataclass(frozen=True, slots=True)
class SendReply:
    """Send a large reply to the API, piece by piece. Answer with `Pieces.reply_lost` when it cannot be read."""

    job_id: str
    ref: BlobRef


@dataclass(frozen=True, slots=True)
class Enqueue:
    """The slot is held: send the message, which names the job and its `size` in bytes.

    Answer with `Attempts.enqueue_failed` when that does not work.
    """

    job_id: str
    attempt: int
    model: str
    queue: str
    size: int


@dataclass(frozen=True, slots=True)
class Release:
    """Free the slot of this attempt, so that its message, if any, finds nothing."""

    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Fence:
    """Cut this attempt off from publishing, for good. Answer with `Attempts.fenced` or `fence_failed`."""

    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class CancelOnWorker:
    """Tell the worker that runs this attempt to stop."""

    worker_id: str
    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Tell this worker to take no new jobs."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Heal:
    """Events are missing: read the replay stream again, `full` from its beginning, else from the last safe place."""

    full: bool = False


@dataclass(frozen=True, slots=True)
class SweepWorker:
    """This worker's lease ran out: clear what it left in Redis, unless it is back."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class StartTask:
    """Send a Celery task to the installer agent of this host. Answer with `Session.install_ended` if that fails."""

    task_id: str
    name: str
    arguments: dict[str, Any] = field(repr=False)
    node: str


@dataclass(frozen=True, slots=True)
class StopTask:
    """Stop it: a waiting one is dropped, a running one ends; what came stays unless `discard`."""

    task_id: str
    node: str
    discard: bool = False


@dataclass(frozen=True, slots=True)
class NoteInstall:
    """Write down how an install stands, for a bridge that may have to go on with it."""

    entry: InstallEntry = field(repr=False)


@dataclass(frozen=True, slots=True)
class DropInstall:
    """Its end has reached the API."""

    request_id: str


OnRedis = Acquire | Remember | Forget | Enqueue | Release | Fence | CancelOnWorker | DrainWorker | SweepWorker
OnBlobs = StoreBlob | DropBlobs
OnAgents = StartTask | StopTask | NoteInstall | DropInstall
Effect = Send | SendReply | OnBlobs | DropLink | Heal | OnRedis | OnAgents
