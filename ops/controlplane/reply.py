"""Writing one HTTP reply, piece by piece, on bare ASGI: every layer less is time saved for each token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.types import Send

from bridge.protocol import ResultFrame
from ops.controlplane.errors import Problem, http_body, http_headers, in_band
from ops.controlplane.sse import DONE, json_payload

JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream; charset=utf-8"
REQUEST_ID_HEADER = "x-request-id"


class Reply:
    """`started`: the status line is out. Every method writes at once; none may be called after `end`."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.started = False

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.started = True
        fields = {REQUEST_ID_HEADER: self.request_id, **headers}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def start_stream(self) -> None:
        # X-Accel-Buffering: proxies of the nginx family would hold the stream back otherwise
        await self.start(
            200, {"content-type": SSE_TYPE, "cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
        )

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(self, data: bytes, headers: Mapping[str, str], *, status: int = 200) -> None:
        """The whole body, or, when the status line is out already, its end."""
        if not self.started:
            await self.start(status, {"content-length": str(len(data)), **headers})
        await self.end(data)

    async def json(self, value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """The whole body, or, when the status line is out already, its end."""
        data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        await self.whole(data, {"content-type": JSON_TYPE, **(headers or {})}, status=status)

    async def problem(self, problem: Problem, *, stream: bool = False) -> None:
        """End with an error: as a status if there is still one to give, else in band."""
        if not self.started:
            await self.json(http_body(problem), status=problem.status, headers=http_headers(problem))
        elif stream:
            await self.end(json_payload(in_band(problem, self.request_id)) + DONE)
        else:
            await self.json(in_band(problem, self.request_id))


def placement_headers(result: ResultFrame) -> dict[str, str]:
    """Which worker served a reply."""
    headers = {"x-worker-id": header_text(result.worker_id)}
    if result.worker_name:
        headers["x-worker-name"] = header_text(result.worker_name)
    return headers


def header_text(text: str) -> str:
    """Printable ASCII as it is, all else in the form of RFC 8187 (`UTF-8''` and percent-encoding)."""
    plain = text.isascii() and text.isprintable() and text == text.strip() and not text.upper().startswith("UTF-8''")
    return text if plain else "UTF-8''" + quote(text, safe="")
