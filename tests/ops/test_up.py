"""`pendra up` says at once, and in words, why it cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ops.home_lock import HomeLock


def up(home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PENDRA_")}
    argv = [sys.executable, "-m", "ops.cli", "up", "--home", str(home), *args]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_a_home_in_use_is_named_with_its_process(tmp_path: Path) -> None:
    with HomeLock(tmp_path, "pendra up"):
        done = up(tmp_path, "--port", "0")
    assert done.returncode == 1
    assert f"pendra up is already running (process {os.getpid()})" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = up(tmp_path, "--port", str(port))
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--model", "no-such:1b"), "no-such:1b"),
        (("--workers", "0"), "--workers"),
        (("--slots", "65"), "--slots"),
        (("--port", "65536"), "--port"),
        (("--redis-url", "http://host"), "redis://"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, args: tuple[str, ...], named: str) -> None:
    if "--port" not in args:
        args = ("--port", "0", *args)
    done = up(tmp_path, *args)
    assert done.returncode in {1, 2}
    assert named in done.stderr
    assert "Traceback" not in done.stderr
