"""One supervisor per home, known by its process id, gone with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops.home_lock import AlreadyRunningError, Holder, HomeLock, holder

HOLD = """
import sys, time
from pathlib import Path
from ops.home_lock import HomeLock
with HomeLock(Path(sys.argv[1]), "pendra up"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_one_hears_who_was_first(tmp_path: Path) -> None:
    with (
        HomeLock(tmp_path, "pendra up"),
        pytest.raises(AlreadyRunningError, match=rf"pendra up is already running \(process {os.getpid()}\).*--home"),
        HomeLock(tmp_path, "pendra worker"),
    ):
        pass


def test_free_again_after_the_end(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with HomeLock(tmp_path, "pendra up"):
        assert holder(tmp_path) == Holder(os.getpid(), "pendra up")
    assert holder(tmp_path) is None
    with HomeLock(tmp_path, "pendra worker"):
        assert holder(tmp_path) == Holder(os.getpid(), "pendra worker")


def test_free_again_after_a_kill(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    with first.stdout:
        assert first.stdout.readline() == "held\n"
        assert holder(tmp_path) == Holder(first.pid, "pendra up")
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert holder(tmp_path) is None
