"""A file sent as a form (RFC 7578): read in memory, never on disk, within the limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from ops.controlplane.jobs import Ask
from ops.controlplane.requests import ask_for, model_of
from tasks.blobs import KIB, MAX_FILE_BYTES, MIB
from tasks.contract import JobKind
from tasks.errors import BadRequestError

FILE = "file"
FORMATS = ("json", "text", "verbose_json", "srt", "vtt")
_FORM_BYTES = MAX_FILE_BYTES + 256 * KIB
_LISTS = ("timestamp_granularities", "include")
_MAX_FIELDS = 64
_MAX_NAME_CHARS = 256


class _InMemory(MultiPartParser):
    spool_max_size = 2 * MAX_FILE_BYTES  # beyond it a file would go to disk; the limit below is met first

    def close(self) -> None:
        """Close what was begun: starlette does so only after an error of its own, not when a form just stops."""
        for file in self._files_to_close_on_error:
            file.close()


def is_form(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


async def read_upload(receive: Receive, headers: Headers) -> Ask:
    """A transcription's form. Raises BadRequestError naming the field, and ClientDisconnect."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > _FORM_BYTES:
        raise _too_large()
    parser = _InMemory(headers, _stream(receive), max_files=1, max_fields=_MAX_FIELDS)
    try:
        return await _ask(await parser.parse(), headers)
    except MultiPartException as exc:
        raise BadRequestError(f"the form cannot be read: {exc.message}", param=FILE) from None
    finally:
        parser.close()


async def _ask(form: FormData, headers: Headers) -> Ask:
    upload = form.get(FILE)
    if not isinstance(upload, UploadFile):
        raise BadRequestError("'file' is missing: send the audio as the form's file field", param=FILE)
    data = await upload.read()
    if not data:
        raise BadRequestError("'file' is empty", param=FILE)
    if len(data) > MAX_FILE_BYTES:
        raise _too_large()
    body = _fields(form)
    about = {"filename": (upload.filename or "audio")[:_MAX_NAME_CHARS], "content_type": upload.content_type}
    return ask_for(JobKind.TRANSCRIPTION, model_of(body), {**body, FILE: about}, headers, parts={FILE: data})


def _fields(form: FormData) -> dict[str, Any]:
    """The form's text fields as a JSON body would have them."""
    body: dict[str, Any] = {}
    for name, value in form.multi_items():
        if not isinstance(value, str):
            continue
        plain = name.removesuffix("[]")
        if plain in _LISTS:
            body.setdefault(plain, []).append(value)
        else:
            body[plain] = value
    _check(body)
    return body


def _check(body: dict[str, Any]) -> None:
    if str(body.pop("stream", "false")).lower() in ("true", "1"):
        raise BadRequestError(
            "transcriptions are not streamed; leave 'stream' out", code="unsupported_parameter", param="stream"
        )
    if (given := body.get("response_format")) is not None and given not in FORMATS:
        raise BadRequestError(f"'response_format' must be one of {', '.join(FORMATS)}", param="response_format")
    if "temperature" in body:
        try:
            body["temperature"] = float(body["temperature"])
        except ValueError:
            raise BadRequestError("'temperature' must be a number", param="temperature") from None


async def _stream(receive: Receive) -> AsyncGenerator[bytes, None]:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        size += len(piece)
        if size > _FORM_BYTES:
            raise _too_large()
        more = bool(message.get("more_body"))
        yield piece


def _too_large() -> BadRequestError:
    return BadRequestError(
        f"the file is larger than {MAX_FILE_BYTES // MIB} MB; compress it or send it in parts",
        code="request_too_large",
        param=FILE,
    )
