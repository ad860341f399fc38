"""Large parts of jobs and replies, as sealed pieces in one Redis hash per job and direction (a claim check).

Field `<part>/<index>` holds a piece of at most PIECE_BYTES, sealed for its key, part and index; the sealed job or
event names each part with its size and number of pieces (`BlobRef`), so that nothing can be cut, moved or swapped.
Pure: bridge and worker bring their own Redis clients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from tasks.contract import BlobRef
from tasks.errors import SealError, WorkerError
from tasks.sealing import Opener, Sealer, blob_aad

B = TypeVar("B", bytes, memoryview)

KIB = 1024
MIB = 1024 * KIB

PIECE_BYTES = 256 * KIB
INLINE_BYTES = 256 * KIB
"""What is larger than this travels in pieces."""

MAX_FILE_BYTES = 25 * MIB
MAX_REQUEST_BYTES = 40 * MIB
"""All parts of a request: a sealed file of MAX_FILE_BYTES in base64, and room for the rest."""

MAX_REPLY_BYTES = 64 * MIB

BODY = "body"
REPLY = "reply"


def cut(data: B) -> Iterator[B]:
    """The pieces, in order; one empty piece of nothing."""
    yield data[:PIECE_BYTES]
    for start in range(PIECE_BYTES, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]


def ref_of(name: str, size: int) -> BlobRef:
    return BlobRef(name=name, size=size, pieces=max(1, -(-size // PIECE_BYTES)))


def field(name: str, index: int) -> str:
    return f"{name}/{index}"


def fields(ref: BlobRef) -> list[str]:
    return [field(ref.name, index) for index in range(ref.pieces)]


def sealed(sealer: Sealer, key: str, name: str, data: bytes) -> dict[str, bytes]:
    """All of a part, ready for HSET under `key`."""
    return {
        field(name, index): sealer.seal(piece, blob_aad(key, name, index)) for index, piece in enumerate(cut(data))
    }


def opened(opener: Opener, key: str, ref: BlobRef, pieces: Sequence[bytes | None], start: int = 0) -> bytes:
    """What HMGET gave for the pieces from `start`. Raises WorkerError(`blob_lost`), SealError."""
    whole = bytearray()
    for index, piece in enumerate(pieces, start):
        if piece is None:
            raise WorkerError(f"the part '{ref.name}' of this request is no longer there", code="blob_lost")
        whole += opener.open(piece, blob_aad(key, ref.name, index))
    return bytes(whole)


def checked(ref: BlobRef, data: bytes) -> bytes:
    """Raises SealError when the part is not as large as its reference says."""
    if len(data) != ref.size:
        raise SealError(f"the part '{ref.name}' has {len(data)} bytes instead of {ref.size}")
    return data
