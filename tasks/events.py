"""Event batches as they travel on Redis: one batch = everything one decode step has for one bridge.

A batch is MessagePack `[version, worker_id, [[job_id, attempt, seq, sealed], …]]`; `sealed` is the event under the
fleet seal, bound to (job_id, attempt, seq). The same bytes go to the channel and the replay stream.

Sealed inside is JSON, or, for a chunk that has nothing but its text and tokens, MessagePack `[data, tokens]`: nearly
all events are such, and they cost a third less on both sides. JSON begins with `{`, the other with 0x92.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgpack

from tasks.contract import CONTRACT_VERSION, EVENT, Chunk, Event, understands
from tasks.errors import SealError
from tasks.sealing import Opener, Sealer, event_aad

if TYPE_CHECKING:
    from collections.abc import Iterable


_PIECE = b"\x92"  # a MessagePack array of two


class Envelope(NamedTuple):
    """One event of a batch, still sealed: what can be known without the fleet key."""

    worker_id: str
    job_id: str
    attempt: int
    seq: int
    sealed: bytes


class Piece(NamedTuple):
    """A chunk that has nothing but its text and tokens, without the cost of a model. See `tasks.contract.Chunk`."""

    data: str
    tokens: tuple[int, ...] | None

    def __repr__(self) -> str:
        return "Piece(…)"  # content belongs in no log


def pack(worker_id: str, events: Iterable[Event], sealer: Sealer) -> bytes:
    """A batch ready for PUBLISH and XADD."""
    rows = [
        (e.job_id, e.attempt, e.seq, sealer.seal(_body(e), event_aad(e.job_id, e.attempt, e.seq))) for e in events
    ]
    return bytes(msgpack.packb([CONTRACT_VERSION, worker_id, rows]))


def unpack(batch: bytes) -> list[Envelope]:
    """The batch's envelopes. Raises SealError when the bytes are not a batch."""
    try:
        version, worker_id, rows = msgpack.unpackb(batch)
        if not understands(version):
            raise SealError(f"an event batch of contract version {version!r}; this build speaks {CONTRACT_VERSION}")
        return [Envelope(worker_id, str(j), int(a), int(s), bytes(sealed)) for j, a, s, sealed, *_ in rows]
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as exc:  # OverflowError: int(inf)
        raise SealError("bytes on the event channel are not an event batch") from exc


def open_event(envelope: Envelope, opener: Opener) -> Event:
    """The event inside. Raises SealError when it does not open or does not parse."""
    event = open_body(envelope, opener)
    if not isinstance(event, Piece):
        return event
    _, job_id, attempt, seq, _ = envelope
    return Chunk(job_id=job_id, attempt=attempt, seq=seq, data=event.data, tokens=event.tokens)


def open_body(envelope: Envelope, opener: Opener) -> Event | Piece:
    """Like `open_event`, but most chunks as a `Piece`: for who opens them by the thousand."""
    body = opener.open(envelope.sealed, event_aad(envelope.job_id, envelope.attempt, envelope.seq))
    try:
        if not body.startswith(_PIECE):
            return EVENT.validate_json(body)
        data, tokens = msgpack.unpackb(body, use_list=False)
    except (ValueError, msgpack.UnpackException):
        raise SealError("a sealed event is not of this contract version") from None
    return Piece(data, tokens)


def _body(event: Event) -> bytes:
    """What is sealed. Raises ValueError for text that is no UTF-8."""
    if type(event) is Chunk and not event.kid:
        return bytes(msgpack.packb((event.data, event.tokens)))
    return EVENT.dump_json(event)
