"""A tethered process ends when its parent does, however that happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.fakes.waiting import PATIENCE_S
from worker import tether

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")

# A parent that starts a tethered sleeper, tells its pid, and sleeps.
PARENT = """
import os, subprocess, sys, time
sys.path.insert(0, {root!r})
from worker import tether
argv = tether.command([sys.executable, "-c", {code!r}], parent=os.getpid(), poll={poll})
child = subprocess.Popen(argv, start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
ROOT = str(Path(tether.__file__).parents[1])


def eventually(look: Callable[[], bool], timeout: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + timeout
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def kill_parent_of_a_tethered_child(code: str, *, poll: bool, say: str) -> tuple[bool, int]:
    script = PARENT.format(root=ROOT, code=code, poll=poll)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline().strip() == say  # the child itself runs
        below = [child.pid for child in psutil.Process(pid).children()]
        parent.kill()
        parent.wait()
        ended = eventually(lambda: gone(pid) and all(map(gone, below)))
        return ended, len(below)


STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_a_killed_parent_takes_even_a_child_that_ignores_sigterm_with_it() -> None:
    assert kill_parent_of_a_tethered_child(STUBBORN, poll=False, say="up") == (True, 0)


def test_without_prctl_a_watcher_between_them_does_the_same() -> None:
    assert kill_parent_of_a_tethered_child(STUBBORN, poll=True, say="up") == (True, 1)


def test_a_parent_that_is_gone_already_starts_nothing() -> None:
    argv = tether.command(["touch", "/nonexistent/never"], parent=os.getpid() + 1)
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == tether.ORPHANED
    assert done.stderr == b""


def test_the_child_keeps_the_process_id_the_arguments_and_the_exit_status() -> None:
    code = "import os, sys; print(os.getpid(), sys.argv[1:]); sys.exit(7)"
    argv = tether.command([sys.executable, "-c", code, "--", "--cpus", "x y"], parent=os.getpid())
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    out, _ = child.communicate(timeout=PATIENCE_S)
    assert out.strip() == f"{child.pid} ['--', '--cpus', 'x y']"
    assert child.returncode == 7


def test_the_fallback_passes_signals_and_exit_status_on() -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(9)); print('up', flush=True); signal.pause()"
    argv = tether.command([sys.executable, "-c", code], parent=os.getpid(), poll=True)
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline().strip() == "up"
        child.send_signal(signal.SIGTERM)
        assert child.wait(PATIENCE_S) == 9


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="CPU sets are Linux's")
def test_cpu_set() -> None:
    cpu = max(os.sched_getaffinity(0))
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    argv = tether.command([sys.executable, "-c", code], parent=os.getpid(), cpus=[cpu])
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == f"[{cpu}]"


def test_a_cpu_that_does_not_exist_is_no_reason_not_to_start() -> None:
    argv = tether.command([sys.executable, "-c", "print('ran')"], parent=os.getpid(), cpus=[4095])
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == "ran"


def test_a_missing_program_is_named() -> None:
    done = subprocess.run(
        tether.command(["/no/such/program"], parent=os.getpid()), capture_output=True, text=True, check=False
    )
    assert done.returncode == tether.NOT_FOUND
    assert "/no/such/program" in done.stderr


def test_watch_kills_an_orphan() -> None:
    child = subprocess.Popen(SLEEPER)
    assert tether.watch(child, os.getppid(), parent_of_self=lambda: 1 if os.getppid() != 1 else 2) == tether.ORPHANED
    assert child.returncode == -signal.SIGKILL


def test_it_starts_fast_because_it_imports_nothing_of_ours() -> None:
    code = "import sys; print([m for m in sys.modules if m.split('.')[0] in {'worker', 'tasks', 'site'}])"
    launcher = [sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path({tether.__file__!r}); {code}"]
    assert subprocess.run(launcher, capture_output=True, text=True, check=True).stdout.strip() == "[]"
