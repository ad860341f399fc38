"""Wire protocol v1 between the API and a bridge: every frame of `/ws/gpu`, both directions.

Frames are JSON text messages, one object each, discriminated by `type`. `docs/protocol.md` is generated from
this package. The API opens with `challenge`; the bridge answers with a signed `hello`; the API says `welcome` or
closes with a `CloseCode` and a reason in words. Times are seconds since the epoch; binary is base64.

`seq` counts a job's frames from 0 without holes and continues across attempts; `ack` tells the bridge what it may
forget; `resume` (bridge) and `welcome.resume` (API) list each open job's last seq after a reconnect.
"""

from __future__ import annotations

from bridge.protocol.codec import decode_api, decode_bridge, encode
from bridge.protocol.frame import MAX_BLOB_BYTES, MAX_COUNT, MAX_FRAME_BYTES, Blob, Frame, JobMark
from bridge.protocol.from_api import Ack, ApiFrame, Cancel, Challenge, Drain, Install, JobFrame, Uninstall, Welcome
from bridge.protocol.from_bridge import (
    Accepted,
    AuditCheckpoint,
    BridgeFrame,
    Capacity,
    ChunkEvent,
    ChunkFrame,
    ErrorFrame,
    Hello,
    Keys,
    Models,
    ProgressFrame,
    ResultFrame,
    Resume,
    UsageFrame,
    WorkerAdvert,
    Workers,
    WorkloadKey,
)
from bridge.protocol.handshake import (
    MAX_CLOCK_SKEW_S,
    MIN_PROTOCOL_VERSION,
    PATH,
    PROTOCOL_VERSION,
    CloseCode,
    signed_bytes,
)

__all__ = [
    "MAX_BLOB_BYTES",
    "MAX_CLOCK_SKEW_S",
    "MAX_COUNT",
    "MAX_FRAME_BYTES",
    "MIN_PROTOCOL_VERSION",
    "PATH",
    "PROTOCOL_VERSION",
    "Accepted",
    "Ack",
    "ApiFrame",
    "AuditCheckpoint",
    "Blob",
    "BridgeFrame",
    "Cancel",
    "Capacity",
    "Challenge",
    "ChunkEvent",
    "ChunkFrame",
    "CloseCode",
    "Drain",
    "ErrorFrame",
    "Frame",
    "Hello",
    "Install",
    "JobFrame",
    "JobMark",
    "Keys",
    "Models",
    "ProgressFrame",
    "ResultFrame",
    "Resume",
    "Uninstall",
    "UsageFrame",
    "Welcome",
    "WorkerAdvert",
    "Workers",
    "WorkloadKey",
    "decode_api",
    "decode_bridge",
    "encode",
    "signed_bytes",
]
