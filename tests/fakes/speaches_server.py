"""A Speaches server: its routes, shapes, status codes and chunks, over real HTTP; faults can be switched on.

Followed: speaches-ai/speaches v0.9.0-rc.3-23-g870e1e1, `src/speaches/` — `main.py` (OpenAPI title and version),
`routers/{models,stt,speech,misc,utils}.py`, `dependencies.py`, `api_types.py`. Its quirks kept here: installs answer
in plain text, when all is downloaded (200), or 201 for one that is there; srt is `text/plain`, vtt `text/vtt`;
`timestamp_granularities[]` is read from the raw form; speech comes chunked without a length; errors are FastAPI's
`detail`; `/version` does not exist.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

WHISPER, KOKORO = "Systran/faster-whisper-tiny", "speaches-ai/Kokoro-82M-v1.0-ONNX"
STT, TTS = "automatic-speech-recognition", "text-to-speech"
TEXT = "Guten Tag, Frau Müller."
SRT = f"1\n00:00:00,000 --> 00:00:01,500\n{TEXT}\n\n"
VTT = f"WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n{TEXT}\n\n"
_MIME = {"mp3": "audio/mpeg", "wav": "audio/wav", "pcm": "audio/pcm", "flac": "audio/flac", "opus": "audio/opus"}


@dataclass
class SpeachesServer:
    """`registry`: what can be downloaded. `statuses`: answered first; `die`: a speech breaks off in the middle."""

    models: dict[str, str] = field(
        default_factory=lambda: {WHISPER: STT, KOKORO: TTS, "pyannote/vad": "voice-activity-detection"}
    )
    registry: dict[str, str] = field(
        default_factory=lambda: {"Systran/faster-whisper-small": STT, "gated/model": STT}
    )
    audio: bytes = bytes(range(256)) * 64
    statuses: list[int] = field(default_factory=list)
    die: bool = False
    hang: bool = False
    download_s: float = 0.0
    forms: list[dict[str, Any]] = field(default_factory=list)
    spoken: list[dict[str, Any]] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", lambda _: JSONResponse({"message": "OK"})),
                Route("/openapi.json", self._openapi),
                Route("/api/ps", lambda _: JSONResponse({"models": []})),
                Route("/v1/models", self._list),
                Route("/v1/models/{model_id:path}", self._model, methods=["GET", "POST", "DELETE"]),
                Route("/v1/audio/transcriptions", self._transcribe, methods=["POST"]),
                Route("/v1/audio/speech", self._speak, methods=["POST"]),
            ]
        )

    async def _openapi(self, _: Request) -> Response:
        return JSONResponse({"openapi": "3.1.0", "info": {"title": "Speaches", "version": "0.8.3"}, "paths": {}})

    async def _list(self, _: Request) -> Response:
        return JSONResponse({"data": [_row(name, task) for name, task in self.models.items()], "object": "list"})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["model_id"]
        if request.method == "POST":
            return await self._download(name)
        if name not in self.models:
            return _detail(404, f"Model '{name}' not found")
        if request.method == "DELETE":
            del self.models[name]
            return JSONResponse({"detail": f"Model '{name}' deleted"})
        return JSONResponse(_row(name, self.models[name]))

    async def _download(self, name: str) -> Response:
        if name in self.models:
            return PlainTextResponse(f"Model '{name}' already exists", status_code=201)
        if name not in self.registry:
            return _detail(404, f"Model '{name}' not found")
        if name.startswith("gated/"):
            return _detail(401, f"Model '{name}' is a gated repository and requires authentication.")
        await asyncio.sleep(self.download_s)
        self.models[name] = self.registry[name]
        return PlainTextResponse(f"Model '{name}' downloaded")

    async def _transcribe(self, request: Request) -> Response:
        form = await request.form()
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            return _missing("file")
        data = await upload.read()
        fields = {name: form.getlist(name) if name.endswith("[]") else form[name] for name in form if name != "file"}
        self.forms.append({**fields, "file": (upload.filename, upload.content_type, data)})
        await form.close()
        if refused := self._refused(str(fields.get("model")), data):
            return refused
        if self.hang:
            try:
                await asyncio.sleep(60)
            finally:
                self.closed.set()
        return _transcription(str(fields.get("response_format", "json")))

    def _refused(self, model: str, data: bytes) -> Response | None:
        if self.statuses:
            return _detail(self.statuses.pop(0), "Internal Server Error")
        if model not in self.models:
            return _detail(
                404, f"Model '{model}' is not installed locally. You can download the model using `POST /v1/models`"
            )
        if data.startswith(b"not audio"):
            return _detail(415, "Failed to decode audio. The provided file type is not supported.")
        return None

    async def _speak(self, request: Request) -> Response:
        body = await request.json()
        self.spoken.append(body)
        for name in ("model", "input", "voice"):
            if name not in body:
                return _missing(name)
        if refused := self._refused(body["model"], b""):
            return refused
        return StreamingResponse(self._chunks(), media_type=_MIME[body.get("response_format", "mp3")])

    async def _chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.audio), 4096):
            if self.die and start:
                raise ConnectionError("the executor died")
            yield self.audio[start : start + 4096]


def _row(name: str, task: str) -> dict[str, Any]:
    return {
        "id": name,
        "created": 0,
        "object": "model",
        "owned_by": name.split("/", maxsplit=1)[0],
        "language": ["de"],
        "task": task,
    }


def _transcription(response_format: str) -> Response:
    if response_format == "text":
        return PlainTextResponse(TEXT)
    if response_format == "srt":
        return PlainTextResponse(SRT)
    if response_format == "vtt":
        return Response(VTT, media_type="text/vtt")
    said: dict[str, Any] = {"text": TEXT, "logprobs": None, "usage": None}
    if response_format == "verbose_json":
        segment = {"id": 1, "start": 0.0, "end": 1.5, "text": TEXT, "tokens": [50364], "temperature": 0.0}
        said = {"duration": 1.5, "language": "de", "text": TEXT, "segments": [segment], "words": None}
    return Response(json.dumps(said), media_type="application/json")


def _detail(status: int, words: str) -> Response:
    return JSONResponse({"detail": words}, status_code=status)


def _missing(name: str) -> Response:
    error = {"type": "missing", "loc": ["body", name], "msg": "Field required", "input": None}
    return JSONResponse({"detail": [error]}, status_code=422)
