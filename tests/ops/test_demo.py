"""The demo: words reach the terminal as they come, timings follow, and any failure is named."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ops import demo
from ops.answer import AnswerError
from ops.demo import Demo, DemoError
from ops.launch import Launch
from ops.node_state import NodeState

CHUNKS: list[dict[str, Any]] = [
    {"choices": [{"delta": {"content": "Paris"}}]},
    {"choices": [{"delta": {"content": "."}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"completion_tokens": 2}, "pendra": {"timing": {"ttft_ms": 5}, "worker": {"id": "w"}}},
]


class Api(ThreadingHTTPServer):
    """Answers every POST with `status` and `lines`; keeps the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.lines = [f"data: {json.dumps(chunk)}" for chunk in CHUNKS] + ["data: [DONE]"]
        self.requests: list[tuple[str | None, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:  # http.server's name
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.headers["Authorization"], body))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write("\n\n".join(self.server.lines).encode() + b"\n\n")

    def log_message(self, *_args: object) -> None:
        pass


class FakeStack:
    """A foreground that is ready at once (or never) and runs until it is stopped."""

    ready = True

    def __init__(self, _launch: Launch, *, on_ready: Callable[[], None], greets: bool) -> None:
        assert not greets
        self._on_ready = on_ready
        self._stopped = threading.Event()

    def run(self) -> None:
        if self.ready:
            self._on_ready()
        assert self._stopped.wait(30)

    def stop(self) -> None:
        self._stopped.set()


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def play(api: Api, monkeypatch: pytest.MonkeyPatch) -> Demo:
    monkeypatch.setattr(demo, "Foreground", FakeStack)
    state = NodeState(node="n", redis_url="unix:///r")
    launch = Launch(Path("/home/p"), (), state, workers=1, url=api.url, api_key="pdr_sk_x")
    return Demo(launch, "smollm2:135m", "Capital of France?")


def test_words_and_facts(api: Api, play: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    answer = play.run()
    assert (answer.words, answer.worker, answer.usage) == ("Paris.", {"id": "w"}, {"completion_tokens": 2})
    assert "Paris." in capsys.readouterr().out
    ((authorization, body),) = api.requests
    assert authorization == "Bearer pdr_sk_x"
    assert (body["model"], body["stream"]) == ("smollm2:135m", True)


def test_a_refusal_is_told_with_its_reason(api: Api, play: Demo) -> None:
    api.status, api.lines = 503, [json.dumps({"detail": "no worker serves it"})]
    with pytest.raises(AnswerError, match="503: no worker serves it"):
        play.run()


def test_an_answer_cut_short_is_a_failure(api: Api, play: Demo) -> None:
    api.lines = api.lines[:1]
    with pytest.raises(AnswerError, match="ended before"):
        play.run()


def test_an_empty_answer_is_a_failure(api: Api, play: Demo) -> None:
    api.lines = ["data: [DONE]"]
    with pytest.raises(AnswerError, match="empty"):
        play.run()


def test_a_stack_that_is_never_ready_ends_at_the_limit(play: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeStack, "ready", False)
    monkeypatch.setattr(play, "_limit", threading.Timer(0.05, play._too_slow))
    with pytest.raises(DemoError, match=r"not ready.*/home/p/logs"):
        play.run()


def test_ctrl_c_is_not_a_success(play: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeStack, "ready", False)
    play._stack.stop()
    with pytest.raises(DemoError, match="stopped before"):
        play.run()
