"""The knock at the API's door, against small servers of our own; and what each failure means."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, ClassVar

import pytest
from websockets.exceptions import InvalidProxyMessage
from websockets.sync.server import ServerConnection, serve

from bridge.identity import generate_nonce
from bridge.protocol import Challenge, encode
from ops.doctor import link
from ops.doctor.verdict import Level, Verdict


@contextlib.contextmanager
def an_api(says: Callable[[ServerConnection], None], **options: Any) -> Iterator[str]:
    with serve(says, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def challenge(offset_s: float = 0.0) -> Callable[[ServerConnection], None]:
    def says(connection: ServerConnection) -> None:
        connection.send(encode(Challenge(nonce=generate_nonce(), time=time.time() + offset_s)))

    return says


class ConnectProxy(socketserver.StreamRequestHandler):
    """Lets anybody CONNECT anywhere, and remembers where."""

    asked: ClassVar[list[str]] = []

    def handle(self) -> None:
        host, _, port = self.rfile.readline().split()[1].decode().rpartition(":")
        self.asked.append(host)
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", int(port))) as there:
            back = threading.Thread(target=pump, args=(there, self.connection))
            back.start()
            pump(self.connection, there)
            back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(4096):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def by_check(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in verdicts}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_an_api_that_challenges_is_fine_and_so_is_the_clock():
    with an_api(challenge()) as url:
        found = by_check(link.look(url))
    assert (found["api"].level, found["clock"].level) == (Level.OK, Level.OK)


def test_a_clock_that_is_far_off_is_a_failure():
    with an_api(challenge(offset_s=600)) as url:
        found = by_check(link.look(url))
    assert (found["api"].level, found["clock"].level) == (Level.OK, Level.FAILED)
    assert "NTP" in found["clock"].fix


def test_a_clock_that_is_a_little_off_is_a_warning():
    assert link.judge_clock(link.MAX_CLOCK_SKEW_S / 2, "the API's").level is Level.WARNING


def test_another_websocket_is_not_the_api():
    with an_api(lambda connection: connection.send('{"type": "hi"}')) as url:
        (verdict,) = link.look(url)
    assert verdict.level is Level.FAILED


def test_a_web_page_is_not_the_api():
    def page(connection, _request):
        return connection.respond(HTTPStatus.NOT_FOUND, "no\n")

    with an_api(challenge(), process_request=page) as url:
        (verdict,) = link.look(url)
    assert "HTTP 404" in verdict.found
    assert "APP_SERVER_WS_URL" in verdict.fix


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (verdict,) = link.look(f"ws://127.0.0.1:{port}")
    assert verdict.level is Level.FAILED


def test_a_proxy_is_gone_through(monkeypatch):
    ConnectProxy.asked.clear()
    with an_api(challenge()) as url, socketserver.ThreadingTCPServer(("127.0.0.1", 0), ConnectProxy) as proxy:
        serving = threading.Thread(target=proxy.serve_forever)
        serving.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
        monkeypatch.setenv("no_proxy", "")
        found = by_check(link.look(url.replace("127.0.0.1", "api.invalid")))
        proxy.shutdown()
        serving.join()
    assert ConnectProxy.asked == ["api.invalid"]
    assert found["api"].level is Level.OK, found
    assert "through the proxy" in found["api"].found


def test_a_proxy_that_nobody_is_is_blamed(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "")
    (verdict,) = link.look("ws://api.invalid")
    assert "through the proxy" in verdict.found
    assert verdict.level is Level.FAILED


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        (ssl.SSLCertVerificationError(), "SSL_CERT_FILE"),
        (InvalidProxyMessage("x"), "CONNECT"),
        (TimeoutError(), "outbound"),
        (ConnectionRefusedError(), "HTTPS_PROXY"),
    ],
)
def test_each_failure_has_its_fix(failure, word):
    found, fix = link.explain(failure, proxied=False)
    assert found
    assert word in fix
