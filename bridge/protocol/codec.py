"""Frames as text, and back: one decode a direction, one typed failure."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from bridge.protocol.frame import Frame
from bridge.protocol.from_api import ApiFrame
from bridge.protocol.from_bridge import BridgeFrame
from tasks.errors import BadRequestError

_API: TypeAdapter[ApiFrame] = TypeAdapter(ApiFrame)
_BRIDGE: TypeAdapter[BridgeFrame] = TypeAdapter(BridgeFrame)


def decode_api(text: str | bytes) -> ApiFrame:
    """A frame the API sent. Raises BadRequestError(`bad_frame`) naming the field, never quoting the content."""
    try:
        return _API.validate_json(text)
    except ValidationError as exc:
        raise _bad_frame(exc) from None


def decode_bridge(text: str | bytes) -> BridgeFrame:
    """A frame a bridge sent. Raises like `decode_api`."""
    try:
        return _BRIDGE.validate_json(text)
    except ValidationError as exc:
        raise _bad_frame(exc) from None


def encode(frame: Frame) -> str:
    return frame.model_dump_json()


def _bad_frame(exc: ValidationError) -> BadRequestError:
    first = exc.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "frame"
    what = "unknown type of frame" if first["type"] == "union_tag_invalid" else first["msg"]  # that one quotes
    return BadRequestError(f"malformed frame: {where}: {what}", code="bad_frame", param=where)
