"""Starts one child of the supervisor: its log, its environment, its tether, a process group of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from worker import tether
from worker.children import ChildSpec

LOG_BYTES = 10 * 1024 * 1024


def spawn(spec: ChildSpec) -> subprocess.Popen[bytes]:
    """Start the child tied to this process. Call from the main thread: the tie follows the spawning thread.

    A session of its own keeps the terminal's Ctrl-C from it (the supervisor stops children in order) and lets
    `kill_group` reach whatever it starts.
    """
    argv = tether.command(spec.argv, parent=os.getpid(), cpus=spec.cpus)
    rotate(spec.log_path)
    with spec.log_path.open("ab") as log:
        return subprocess.Popen(
            argv,
            env=environment(spec),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def environment(spec: ChildSpec) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in spec.drop_env}
    return inherited | {"PYTHONUNBUFFERED": "1"} | dict(spec.env)


def rotate(path: Path, limit: int = LOG_BYTES) -> None:
    """Make the log's folder; move a log over `limit` bytes aside, so that two files bound a part's disk use."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > limit:
            path.replace(path.with_name(path.name + ".1"))


def kill_group(process: subprocess.Popen[bytes], signum: int) -> None:
    """Signal the child and everything in its group. A child that is gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signum)
