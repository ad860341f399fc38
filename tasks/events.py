"""Event batches as they travel on Redis: one batch = everything one decode step has for one bridge.

A batch is MessagePack `[version, worker_id, [[job_id, attempt, seq, sealed], …]]`; `sealed` is the event's JSON
under the fleet seal, bound to (job_id, attempt, seq). The same bytes go to the channel and the replay stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgpack

from tasks.contract import CONTRACT_VERSION, EVENT, Event
from tasks.errors import SealError
from tasks.sealing import Opener, Sealer, event_aad

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event of a batch, still sealed: what can be known without the fleet key."""

    worker_id: str
    job_id: str
    attempt: int
    seq: int
    sealed: bytes


def pack(worker_id: str, events: Iterable[Event], sealer: Sealer) -> bytes:
    """A batch ready for PUBLISH and XADD."""
    rows = [
        [e.job_id, e.attempt, e.seq, sealer.seal(EVENT.dump_json(e), event_aad(e.job_id, e.attempt, e.seq))]
        for e in events
    ]
    return bytes(msgpack.packb([CONTRACT_VERSION, worker_id, rows]))


def unpack(batch: bytes) -> list[Envelope]:
    """The batch's envelopes. Raises SealError when the bytes are not a batch."""
    try:
        version, worker_id, rows = msgpack.unpackb(batch)
        if version != CONTRACT_VERSION:
            raise SealError(f"an event batch of contract version {version!r}; this build speaks {CONTRACT_VERSION}")
        return [Envelope(worker_id, str(j), int(a), int(s), bytes(sealed)) for j, a, s, sealed in rows]
    except (ValueError, TypeError, msgpack.UnpackException) as exc:
        raise SealError("bytes on the event channel are not an event batch") from exc


def open_event(envelope: Envelope, opener: Opener) -> Event:
    """The event inside. Raises SealError when it does not open or does not parse."""
    aad = event_aad(envelope.job_id, envelope.attempt, envelope.seq)
    try:
        return EVENT.validate_json(opener.open(envelope.sealed, aad))
    except ValueError:
        raise SealError("a sealed event is not of this contract version") from None
