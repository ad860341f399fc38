"""Transcription and speech jobs as Speaches' requests, and its answers as ours. Pure.

src/speaches/routers/stt.py, src/speaches/routers/speech.py
"""

from __future__ import annotations

import base64
import json
from typing import Any

from tasks.contract import Job, JsonObject
from tasks.errors import BadRequestError
from worker.backends.external.faults import faulty
from worker.backends.external.product import Found

FILE = "file"
_FIELDS = ("language", "prompt", "response_format", "temperature", "hotwords", "without_timestamps")
_GRANULARITIES = "timestamp_granularities"
_AS_TEXT = frozenset({"text", "srt", "vtt"})
_SPEECH = ("input", "voice", "response_format", "speed", "sample_rate")


def transcription_form(job: Job, model: str) -> dict[str, Any]:
    """`data=` and `files=` of the request. Raises BadRequestError for a job without its audio."""
    audio = job.parts.get(FILE)
    if audio is None:
        raise BadRequestError("the request has no audio; send it as the form's file field", param=FILE)
    data: dict[str, Any] = {"model": model}
    data |= {name: _text(job.body[name]) for name in _FIELDS if job.body.get(name) is not None}
    granularities = job.body.get(_GRANULARITIES)
    if isinstance(granularities, list) and granularities:
        data[f"{_GRANULARITIES}[]"] = [str(one) for one in granularities]
    name, kind = _about(job.body.get(FILE))
    return {"data": data, "files": {FILE: (name, audio, kind)}}


def transcribed(found: Found, job: Job, body: bytes) -> str:
    """The reply: a JSON string for text, srt and vtt, an object otherwise. Raises PendraError `backend_error`."""
    text = body.decode("utf-8", "replace")
    if job.body.get("response_format") in _AS_TEXT:
        return json.dumps(text)
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("text"), str):
        raise faulty(found, "sent a transcription without a text")
    return json.dumps(said, separators=(",", ":"))


def speech_body(job: Job, model: str) -> JsonObject:
    return {"model": model, **{name: job.body[name] for name in _SPEECH if job.body.get(name) is not None}}


def spoken(audio: bytes, content_type: str) -> str:
    """The reply of a speech job: audio as JSON, like every reply."""
    return json.dumps({"audio": base64.b64encode(audio).decode(), "content_type": content_type})


def _about(said: Any) -> tuple[str, str]:
    about = said if isinstance(said, dict) else {}
    return str(about.get("filename") or "audio"), str(about.get("content_type") or "application/octet-stream")


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
