"""What the control plane can be told: where its state is, how long it waits, how much it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bridge.protocol import MAX_FRAME_BYTES
from tasks.blobs import MAX_REQUEST_BYTES, MIB
from tasks.contract import JobKind

_LONG = (JobKind.IMAGE, JobKind.TRANSCRIPTION, JobKind.SPEECH)


@dataclass(frozen=True, slots=True)
class Timers:
    """Seconds. The defaults are the API's own; tests shorten them.

    `idle_s` counts from the last frame about a request. A reply that does not stream says nothing while it is
    generated, so once a worker has it `working_idle_s` counts instead (lost workers are the bridge's business).
    """

    tick_s: float = 0.25
    ack_every_s: float = 0.25
    handshake_s: float = 10.0
    bridge_grace_s: float = 10.0
    keepalive_after_s: float = 80.0
    keepalive_every_s: float = 10.0
    idle_s: float = 100.0
    working_idle_s: float = 600.0
    short_s: float = 60.0
    long_s: float = 600.0
    stalled_reader_s: float = 100.0
    usage_flush_s: float = 0.5
    stop_s: float = 3.0

    def total_s(self, kind: JobKind) -> float | None:
        """How long a request of this kind may take in all; None: only silence ends it."""
        if kind in (JobKind.CHAT, JobKind.COMPLETION):
            return None
        return self.long_s if kind in _LONG else self.short_s


@dataclass(frozen=True, slots=True)
class Limits:
    """`body_bytes`: of a request; what is larger than `tasks.blobs.INLINE_BYTES` travels in pieces.

    `unread_bytes`: of a reply, waiting for a client that reads too slowly. `outbound_bytes`: of frames, waiting for
    a bridge that does not read. `body_idle_s`: between two pieces of a request's body; `body_s`: for all of it.
    `greetings`: connections that have not said who they are yet.
    """

    body_bytes: int = MAX_REQUEST_BYTES
    frame_bytes: int = MAX_FRAME_BYTES
    unread_bytes: int = 8 * MIB
    outbound_bytes: int = 64 * MIB
    ack_every_frames: int = 64
    body_idle_s: float = 30.0
    body_s: float = 300.0
    greetings: int = 256


@dataclass(frozen=True, slots=True)
class Config:
    home: Path
    timers: Timers = field(default_factory=Timers)
    limits: Limits = field(default_factory=Limits)
    catalogue_url: str = ""
