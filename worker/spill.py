"""Replies that are too large for an event: they are laid down beside it, in pieces. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks import blobs, keys
from tasks.contract import Event, Failed, Finished
from tasks.sealing import Sealer

_SURELY_INLINE = blobs.INLINE_BYTES // 4  # a character is at most 4 bytes


@dataclass(frozen=True, slots=True)
class Laid:
    """Pieces to be written under `key` before the event that names them."""

    key: str
    pieces: dict[str, bytes] = field(repr=False)

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces.values()))


def spilled(item: Event, sealer: Sealer) -> tuple[Event, Laid | None]:
    """The event as it travels, and what has to be laid down for it. Beyond the limit it becomes a failure."""
    if not isinstance(item, Finished) or item.data is None or len(item.data) <= _SURELY_INLINE:
        return item, None
    try:
        data = item.data.encode()
    except UnicodeEncodeError:
        return item, None  # whoever packs it says so
    if len(data) > blobs.MAX_REPLY_BYTES:
        return _too_large(item), None
    if len(data) <= blobs.INLINE_BYTES:
        return item, None
    key, name = keys.reply(item.job_id), f"{blobs.REPLY}.{item.attempt}"
    slim = item.model_copy(update={"data": None, "blob": blobs.ref_of(name, len(data))})
    return slim, Laid(key, blobs.sealed(sealer, key, name, data))


def _too_large(item: Finished) -> Failed:
    return Failed(
        job_id=item.job_id,
        attempt=item.attempt,
        seq=item.seq,
        code="reply_too_large",
        message=f"the reply is larger than {blobs.MAX_REPLY_BYTES // blobs.MIB} MiB; ask for less at once",
    )
