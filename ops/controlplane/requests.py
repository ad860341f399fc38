"""From the bytes of a request to an `Ask`. Pure.

Checked here: that the body is a JSON object and what placement needs of it. What the fields mean is the worker's.
No error quotes the body.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic_core import from_json

from ops.controlplane.jobs import Ask
from tasks.blobs import BODY, INLINE_BYTES
from tasks.capability import shows_images
from tasks.contract import JobKind, Priority
from tasks.errors import BadRequestError
from tasks.private import ENVELOPE, Envelope, is_private, parse_envelope

PIN_HEADER = "x-pendra-worker-id"
PRIORITY_HEADER = "x-pendra-priority"
PREFIX_CHARS = 1000  # of a completion's prompt (or tokens): equal beginnings share a cache
MAX_MODEL_CHARS = 256
MAX_NAME_CHARS = 64
_IN_THE_CLEAR = frozenset({"model", "stream", ENVELOPE})  # of a sealed request
_NEEDED: dict[JobKind, tuple[str, ...]] = {
    JobKind.CHAT: ("messages",),
    JobKind.COMPLETION: ("prompt",),
    JobKind.EMBEDDINGS: ("input",),
    JobKind.RERANK: ("query", "documents"),
    JobKind.IMAGE: ("prompt",),
    JobKind.SPEECH: ("input", "voice"),
}
_STREAMS = (JobKind.CHAT, JobKind.COMPLETION)
_NEVER_SEALED = (JobKind.COMPLETION, JobKind.SPEECH)


def parse_ask(kind: JobKind, raw: bytes, headers: Mapping[str, str], *, secret: str) -> Ask:
    """`secret` keys the affinity token, so that equal conversations of two API keys do not look equal.

    Raises BadRequestError naming the field.
    """
    body = parse_object(raw)
    model = model_of(body)
    envelope = _envelope(kind, body) if is_private(body) else None
    if envelope is None:
        _check_needed(kind, body)
    return ask_for(
        kind,
        model,
        body,
        headers,
        stream=_stream(body) and kind in _STREAMS,
        affinity=envelope.affinity_key if envelope else _affinity(kind, model, body, secret),
        sealed=envelope is not None,
        kids=tuple(recipient.kid for recipient in envelope.recipients) if envelope else (),
    )


def ask_for(
    kind: JobKind, model: str, body: dict[str, Any], headers: Mapping[str, str], *, stream: bool = False, **more: Any
) -> Ask:
    """An Ask with what the headers say. `more`: the other fields of Ask."""
    return Ask(
        kind=kind,
        model=model,
        stream=stream,
        body=body,
        pin=headers.get(PIN_HEADER, "").strip() or None,
        priority=_priority(headers.get(PRIORITY_HEADER, "")),
        **more,
    )


def in_parts(ask: Ask, raw: bytes) -> Ask:
    """The same request; a body that is large travels in pieces, as it came. What is left says if it shows images."""
    if len(raw) <= INLINE_BYTES:
        return ask
    images = shows_images(ask.kind, ask.body)
    left: dict[str, Any] = {"messages": [{"content": [{"type": "image_url"}]}]} if images else {}
    return replace(ask, body=left, parts={BODY: raw})


def parse_object(raw: bytes) -> dict[str, Any]:
    """A JSON object (RFC 8259). Raises BadRequestError saying where it stops being one, without content."""
    if not raw.strip():
        raise BadRequestError("the request has no body; a JSON object is needed", code="invalid_json")
    try:
        value = from_json(raw, allow_inf_nan=False)
    except ValueError as exc:
        raise BadRequestError(f"the request body is not valid JSON: {exc}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise BadRequestError(f"the request body must be a JSON object, not {_json_type(value)}")
    return value


def model_of(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model.strip():
        raise BadRequestError(
            "'model' must name a model, e.g. one of those that GET /api/v1/models lists", param="model"
        )
    if len(model) > MAX_MODEL_CHARS:
        raise BadRequestError(f"'model' is longer than {MAX_MODEL_CHARS} characters", param="model")
    return model


def _stream(body: dict[str, Any]) -> bool:
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequestError(f"'stream' must be true or false, not {_json_type(stream)}", param="stream")
    return bool(stream)


def _priority(text: str) -> Priority:
    try:
        return Priority(text.strip().lower() or Priority.INTERACTIVE)
    except ValueError:
        words = " or ".join(Priority)
        raise BadRequestError(f"the header {PRIORITY_HEADER} must be {words}", param=PRIORITY_HEADER) from None


def _check_needed(kind: JobKind, body: dict[str, Any]) -> None:
    if kind is JobKind.TRANSCRIPTION:
        raise BadRequestError(
            "send the audio as a form (multipart/form-data) with the fields 'file' and 'model'", param="file"
        )
    if kind is JobKind.SPEECH and body.get("stream_format", "audio") != "audio":
        raise BadRequestError(
            "speech is not streamed as events; leave 'stream_format' out",
            code="unsupported_parameter",
            param="stream_format",
        )
    for name in _NEEDED.get(kind, ()):
        if body.get(name) is None:
            raise BadRequestError(f"'{name}' is missing", param=name)
    if kind is JobKind.CHAT:
        messages = body["messages"]
        if not isinstance(messages, list) or not messages:
            said = "an empty array" if messages == [] else _json_type(messages)
            raise BadRequestError(
                f"'messages' must be an array of at least one message, not {said}", param="messages"
            )


def _envelope(kind: JobKind, body: dict[str, Any]) -> Envelope:
    """Raises BadRequestError also for what stands beside the envelope: somebody meant to seal that."""
    if kind in _NEVER_SEALED:
        raise BadRequestError("private inference does not offer this endpoint", code="unsupported_endpoint")
    envelope = parse_envelope(body[ENVELOPE])
    beside = sorted(body.keys() - _IN_THE_CLEAR)
    if beside:
        raise BadRequestError(
            f"'{beside[0][:MAX_NAME_CHARS]}' stands beside '{ENVELOPE}' in the clear; it belongs in the sealed body",
            code="bad_envelope",
            param=beside[0][:MAX_NAME_CHARS],
        )
    return envelope


def _affinity(kind: JobKind, model: str, body: dict[str, Any], secret: str) -> str | None:
    """Equal for what shares a cache, under a keyed hash: of a chat the messages up to the first of the user, of a
    completion the beginning of its prompt (a shorter one can only be all of it)."""
    if kind is JobKind.CHAT:
        opening = _up_to_the_user(body["messages"])
    elif kind is JobKind.COMPLETION and isinstance(prompt := body.get("prompt"), str | list):
        opening = list(prompt[:PREFIX_CHARS]) if isinstance(prompt, list) else [prompt[:PREFIX_CHARS]]
    else:
        return None
    text = json.dumps([model, opening], sort_keys=True, separators=(",", ":"))
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _up_to_the_user(messages: list[Any]) -> list[Any]:
    asked = (at for at, one in enumerate(messages, 1) if isinstance(one, dict) and one.get("role") == "user")
    return messages[: next(asked, len(messages))]


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", dict: "an object", list: "an array", str: "a string"}
    return names.get(type(value), "a number")
