"""Large parts between the API and a bridge, as `blob` frames: on their way out, and coming in. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from bridge.protocol import Blob, encode
from tasks.blobs import MAX_REPLY_BYTES, MIB, cut
from tasks.contract import BlobRef
from tasks.errors import WorkerError


def frames(job_id: str, parts: Mapping[str, bytes], wanted: Callable[[], bool]) -> Iterator[str]:
    """The parts as frames, made one at a time, as long as they are `wanted`."""
    for name, data in parts.items():
        pieces = list(cut(memoryview(data)))  # views: nothing is copied
        for index, piece in enumerate(pieces):
            if not wanted():
                return
            text = base64.b64encode(piece).decode()
            yield encode(Blob(job_id=job_id, name=name, index=index, data=text, last=index == len(pieces) - 1))


@dataclass(slots=True)
class Arriving:
    """A large reply on its way in."""

    name: str
    data: bytearray = field(default_factory=bytearray, repr=False)
    pieces: int = 0
    done: bool = False

    def add(self, blob: Blob) -> None:
        """The next piece. Raises WorkerError when it is another, or too much."""
        if blob.name != self.name or blob.index != self.pieces or self.done:
            raise _lost(f"piece {self.pieces} was expected, {blob.index} arrived")
        try:
            self.data += base64.b64decode(blob.data, validate=True)
        except ValueError:
            raise _lost(f"piece {blob.index} is not base64") from None
        if len(self.data) > MAX_REPLY_BYTES:
            raise WorkerError(f"the reply is larger than {MAX_REPLY_BYTES // MIB} MiB", code="reply_too_large")
        self.pieces, self.done = self.pieces + 1, blob.last

    def text(self, ref: BlobRef) -> str:
        """All of it, when it is what `ref` announced. Raises WorkerError."""
        if (self.name, len(self.data), self.pieces) != (ref.name, ref.size, ref.pieces):
            raise _lost(f"{len(self.data)} of {ref.size} bytes arrived")
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            raise _lost("it is not text") from None


def _lost(why: str) -> WorkerError:
    return WorkerError(f"a large reply did not arrive in full: {why}", code="stream_gap")
