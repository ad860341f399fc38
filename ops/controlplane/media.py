"""Replies that are no JSON object for the client: audio, and transcriptions as plain text. Pure."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

from pydantic_core import from_json

from ops.controlplane.jobs import Ask
from tasks.contract import JobKind
from tasks.errors import WorkerError

_TEXTS = {
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",  # as OpenAI sends it
    "vtt": "text/vtt; charset=utf-8",
}


_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,64}/[\w!#$&^.+-]{1,64}(;[ -~]{0,128})?", re.ASCII)  # RFC 6838 §4.2


@dataclass(frozen=True, slots=True)
class Media:
    content_type: str
    data: bytes = field(repr=False)


def is_media(ask: Ask) -> bool:
    """Whether white space before the reply would damage it."""
    if ask.sealed:
        return False
    return ask.kind is JobKind.SPEECH or (
        ask.kind is JobKind.TRANSCRIPTION and ask.body.get("response_format") in _TEXTS
    )


def media_of(ask: Ask, data: str | None) -> Media:
    """The worker's reply to an ask that `is_media`: `{"audio", "content_type"}` or a JSON string.

    Raises WorkerError when it is neither.
    """
    try:
        said = from_json(data or "")
        if ask.kind is JobKind.SPEECH:
            media = Media(said["content_type"], base64.b64decode(said["audio"], validate=True))
            if _MEDIA_TYPE.fullmatch(media.content_type):  # it becomes a header
                return media
        elif isinstance(said, str):
            return Media(_TEXTS[ask.body["response_format"]], said.encode())
    except (ValueError, KeyError, TypeError):
        pass
    raise WorkerError("the worker sent a reply of another kind than was asked for")
