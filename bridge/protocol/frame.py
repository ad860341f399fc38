"""What the frames of both directions have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_FRAME_BYTES = 1 << 20
MAX_BLOB_BYTES = 256 * 1024
MAX_COUNT = 2**53  # what JSON numbers are good for (RFC 8259 §6)


class Frame(BaseModel):
    """`NaN` and `Infinity`, which readers of JSON in Python let through, are malformed: no limit holds for them."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)


class JobMark(Frame):
    """An open job and the last seq the sender has of it (-1: nothing yet)."""

    job_id: str
    seq: int = -1


class Blob(Frame):
    """A piece of a binary part, both directions, at most 256 KB before base64. `last` ends the part."""

    type: Literal["blob"] = "blob"
    job_id: str
    name: str
    index: int
    data: str = Field(repr=False)
    last: bool = False
