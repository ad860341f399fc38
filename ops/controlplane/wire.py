"""Reading a bridge's frames. `chunk` frames are the hot path and go past pydantic, which takes half the time."""

from __future__ import annotations

from pydantic_core import from_json

from bridge.protocol import BridgeFrame, ChunkFrame, decode_bridge
from tasks.errors import BadRequestError

_CHUNK_HEAD = '{"type":"chunk",'
Chunks = list[tuple[str, int, str]]


def decode(text: str) -> Chunks | BridgeFrame:
    """The (job id, seq, data) of a chunk frame, or any other frame. Raises BadRequestError(`bad_frame`)."""
    if text.startswith(_CHUNK_HEAD):
        return _chunks(text)
    frame = decode_bridge(text)
    if isinstance(frame, ChunkFrame):
        return [(event.job_id, event.seq, event.data) for event in frame.events]
    return frame


def _chunks(text: str) -> Chunks:
    try:
        rows: Chunks = [(row["job_id"], row["seq"], row["data"]) for row in from_json(text)["events"]]
    except (ValueError, KeyError, TypeError):
        raise _BAD from None
    for job_id, seq, data in rows:
        if type(job_id) is not str or type(seq) is not int or type(data) is not str:
            raise _BAD
    return rows


_BAD = BadRequestError(
    "malformed frame: events: each chunk event needs job_id (text), seq (whole number) and data (text)",
    code="bad_frame",
    param="events",
)
