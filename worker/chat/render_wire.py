"""What the worker and its renderer say to each other: a length of four bytes, then JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, BinaryIO

_LENGTH_BYTES = 4


class Outcome(StrEnum):
    DONE = "done"
    REFUSED = "refused"  # by the template, in its author's words
    FAILED = "failed"  # it broke: the kind of error and the line
    TOO_LONG = "too_long"
    INVALID = "invalid"  # no Jinja
    OVERTIME = "overtime"  # more time or memory than it may have


def write(stream: BinaryIO, message: Mapping[str, Any]) -> None:
    """Raises OSError when the other side is gone."""
    data = json.dumps(message, separators=(",", ":")).encode()
    stream.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    stream.flush()


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """None when the other side is gone."""
    head = stream.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    size = int.from_bytes(head, "big")
    data = stream.read(size)
    if len(data) < size:
        return None
    message: dict[str, Any] = json.loads(data)
    return message
