"""`pendra backends`: from the heartbeats of a fleet, and alone."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from ops import backends
from ops.backends import ASKED_HERE, looked, reported
from ops.commands.backends import command, model_line
from tasks.contract import BackendReport, BackendState, ModelInfo, WorkerInfo
from tasks.settings import load_settings
from tests.worker.backends.external.parts import HandProduct

MODEL = ModelInfo(id="llava:7b", backend="ollama", parameter_size="7B", context_length=4096, features=("vision",))
FOUND = BackendReport(
    product="ollama",
    state=BackendState.FOUND,
    url="http://localhost:11434",
    version="0.9.1",
    latency_ms=1.4,
    models=(MODEL,),
)
MISSING = BackendReport(product="vllm", state=BackendState.MISSING, why="http://localhost:8000: connection refused")
ENDPOINTS = ("OLLAMA_ENDPOINT", "VLLM_ENDPOINT", "LMSTUDIO_ENDPOINT", "SPEACHES_ENDPOINT")


def proxy(node: str, *rows: BackendReport) -> WorkerInfo:
    fields = {"epoch": "e", "name": node, "pid": 1, "version": "1", "device": "proxy", "slots_total": 4}
    return WorkerInfo(worker_id=f"{node}-proxy", node=node, role="proxy", backends=rows, **fields)


def test_each_hosts_proxy_tells_of_its_host():
    rows = reported([proxy("b", FOUND), proxy("a", MISSING), proxy("c")])
    assert [(row.node, row.told_by, row.backends) for row in rows] == [
        ("a", "a-proxy", (MISSING,)),
        ("b", "b-proxy", (FOUND,)),
    ]


def test_without_a_proxy_the_command_looks_itself(tmp_path):
    settings = load_settings(home=tmp_path, worker_id="wrk-1")
    row = looked(settings, [HandProduct().put("http://localhost:11434", "m")])
    assert (row.node, row.told_by) == ("wrk-1", ASKED_HERE)
    assert [(one.product, one.state, len(one.models)) for one in row.backends] == [("ollama", "found", 1)]


def test_a_model_in_a_line():
    assert model_line(MODEL) == "llava:7b: chat, 7B, context 4096, vision"


def run(monkeypatch, tmp_path, *args: str, rows=((), ""), **env: str):
    for name in ENDPOINTS:
        monkeypatch.setenv(name, env.get(name, "off"))
    if rows[0]:
        monkeypatch.setattr(backends, "everywhere", lambda _settings: rows)
    monkeypatch.setenv("PENDRA_REDIS_URL", "redis://127.0.0.1:1/0")
    return CliRunner().invoke(command, ["--home", str(tmp_path), *args], catch_exceptions=False)


def test_people_see_what_is_there_and_why_not(monkeypatch, tmp_path):
    nodes = (backends.NodeBackends(node="a", told_by="a-proxy", backends=(FOUND, MISSING)),)
    out = run(monkeypatch, tmp_path, rows=(nodes, "")).stdout
    for words in ("a  (told by a-proxy)", "http://localhost:11434", "0.9.1", "llava:7b: chat", "connection refused"):
        assert words in out


def test_json_says_all_of_it(monkeypatch, tmp_path):
    nodes = (backends.NodeBackends(node="a", told_by="a-proxy", backends=(FOUND,)),)
    (node,) = json.loads(run(monkeypatch, tmp_path, "--json", rows=(nodes, "")).stdout)
    assert node["backends"][0]["models"][0]["features"] == ["vision"]


def test_all_off_is_said(monkeypatch, tmp_path):
    done = run(monkeypatch, tmp_path, "--json")
    (node,) = json.loads(done.stdout)
    assert {row["state"] for row in node["backends"]} == {"off"}


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>Router</title>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def page():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(("scheme", "words"), [("http", "HTML"), ("https", "TLS")])
def test_a_wrong_endpoint_is_named_with_what_is_there(monkeypatch, tmp_path, page, scheme, words):
    place = page.replace("http:", f"{scheme}:")
    (node,) = json.loads(run(monkeypatch, tmp_path, "--json", OLLAMA_ENDPOINT=place).stdout)
    (row,) = [row for row in node["backends"] if row["product"] == "ollama"]
    assert row["state"] == "missing"
    assert row["url"] == place
    assert words in row["why"]
