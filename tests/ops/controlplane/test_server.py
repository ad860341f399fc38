"""`run`: starts, says when it cannot, stops when told."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ops.controlplane.server import run
from tests.fakes.waiting import until

CODE = """
import logging, pathlib, sys
logging.basicConfig(level=logging.INFO)
from ops.controlplane.server import run
sys.exit(run("127.0.0.1", 0, pathlib.Path(sys.argv[1])))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_process_serves_and_stops_cleanly(tmp_path: Path, how: signal.Signals) -> None:
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CODE, str(tmp_path / "home")], stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        found = until(lambda: re.search(r"listening host=\S+ port=(\d+)", log.read_text()))
        assert found is not None
        assert httpx.get(f"http://127.0.0.1:{found[1]}/healthz", trust_env=False).status_code == 503
        process.send_signal(how)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert "controlplane.stopped" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert (tmp_path / "home" / "api-key").read_text().strip() not in log.read_text()


def test_a_taken_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("127.0.0.1", port, tmp_path) == 1
    said = capsys.readouterr().err
    assert str(port) in said
    assert "--port" in said


def test_a_home_that_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "controlplane.db").mkdir()
    assert run("127.0.0.1", 0, tmp_path) == 1
    assert "controlplane.db" in capsys.readouterr().err
