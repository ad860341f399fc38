"""An OSV service on loopback: `POST /v1/query` (https://google.github.io/osv.dev/post-v1-query/) over a `Book`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from ops.advisories.records import PYPI, Book

PATH = "/v1/query"
MAX_QUERY_BYTES = 4096


@contextmanager
def serving(book: Book) -> Iterator[str]:
    """The address to ask, until the block ends. Blocking only at the end, until open questions are answered."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(book))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{PATH}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(book: Book, query: bytes) -> tuple[HTTPStatus, dict[str, Any]]:
    """What OSV says to a question about one version of one package; `{}` when it knows nothing."""
    try:
        asked = json.loads(query)
        package, version = asked["package"], asked["version"]
        if package["ecosystem"] != PYPI:
            return HTTPStatus.BAD_REQUEST, _refusal("only packages of PyPI are known here")
        found = book.about(package["name"], version)
    except (ValueError, KeyError, TypeError, AttributeError):
        return HTTPStatus.BAD_REQUEST, _refusal("a package's name and ecosystem and a version (PEP 440) are needed")
    vulns = [advisory.model_dump(mode="json", exclude_none=True) for advisory in found]
    return HTTPStatus.OK, {"vulns": vulns} if vulns else {}


def _refusal(words: str) -> dict[str, Any]:
    return {"code": 3, "message": words}  # gRPC's INVALID_ARGUMENT, as OSV answers


def _handler(book: Book) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name http.server looks for
            size = int(self.headers.get("content-length", 0))
            if self.path != PATH or size > MAX_QUERY_BYTES:
                self._say(HTTPStatus.NOT_FOUND, _refusal(f"ask POST {PATH}"))
            else:
                self._say(*answer(book, self.rfile.read(size)))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # a line a package says nothing
            pass

        def _say(self, status: HTTPStatus, reply: dict[str, Any]) -> None:
            body = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
