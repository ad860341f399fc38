"""Ties a process to its parent's life: `python worker/tether.py --parent PID [--cpus 0,1] -- argv…`.

Stands between the supervisor and every child, because only the child itself can ask the kernel for these:

1. On Linux, `prctl(PR_SET_PDEATHSIG, SIGKILL)`; the setting survives `exec`. SIGKILL, not SIGTERM: when the
   supervisor dies without a word there is nobody left who would shorten a warm shutdown that hangs, and a GPU
   must be free when the next supervisor starts. It costs nothing: jobs of a killed worker come back through
   their lease, and no part keeps state that a clean end would save. The signal follows the *thread* that
   spawned us, so the supervisor spawns from its main thread only.
2. The parent may have died before the call: our parent must still be PID, or we end.
3. The CPU set, then `exec`: the child keeps our process id.

Where there is no `prctl` (macOS), we stay, run the child below us, and kill it once our own parent has changed.

Standard library only, and no import of this project, so that it starts in milliseconds with `-I -S`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

PR_SET_PDEATHSIG = 1  # prctl(2)
ORPHANED = 113  # exit status: the parent was gone before we could tie ourselves to it
NOT_FOUND = 127  # exit status of a shell that finds no such command
_POLL_S = 0.5


def command(argv: Sequence[str], *, parent: int, cpus: Sequence[int] = (), poll: bool = False) -> list[str]:
    """The argv that runs `argv` tied to process `parent`. `poll` forces the fallback without prctl."""
    launcher = [sys.executable, "-I", "-S", __file__, "--parent", str(parent)]
    if cpus:
        launcher += ["--cpus", ",".join(map(str, cpus))]
    return [*launcher, *(["--poll"] if poll else []), "--", *argv]


def die_with_parent() -> bool:
    """Ask the kernel to kill this process when the thread that made it ends. False where it cannot."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)) == 0


def pin(cpus: Sequence[int]) -> None:
    """Run on these CPUs only, where the system can; a CPU that is gone is no reason not to start."""
    if cpus and sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cpus)


def watch(child: subprocess.Popen[bytes], parent: int, parent_of_self: Callable[[], int] = os.getppid) -> int:
    """Wait for `child`; kill it as soon as our parent is no longer `parent`. Returns an exit status."""
    while True:
        try:
            code = child.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            if parent_of_self() != parent:
                child.kill()
                child.wait()
                return ORPHANED
        else:
            return code if code >= 0 else 128 - code


def _passed_on() -> list[signal.Signals]:
    """Those of SIGTERM, SIGINT and SIGHUP that this system has."""
    return [signal.Signals[name] for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


def supervise(argv: Sequence[str], parent: int) -> int:
    """The fallback: run `argv` below us, pass signals on, and end it when the parent ends."""
    child = subprocess.Popen(list(argv))
    for signum in _passed_on():
        signal.signal(signum, lambda received, _frame: child.send_signal(received))
    return watch(child, parent)


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tether", description="run a command that dies with its parent")
    parser.add_argument("--parent", type=int, required=True, help="process id that must be our parent")
    parser.add_argument("--cpus", default="", help="comma-separated CPU numbers to run on")
    parser.add_argument("--poll", action="store_true", help="watch the parent instead of asking the kernel")
    parser.add_argument("argv", nargs="+")
    asked = parser.parse_args(args)
    tied = not asked.poll and die_with_parent()
    if os.getppid() != asked.parent:
        return ORPHANED
    pin([int(cpu) for cpu in asked.cpus.split(",") if cpu])
    try:
        if not tied:
            return supervise(asked.argv, asked.parent)
        os.execvp(asked.argv[0], asked.argv)  # noqa: S606  # replacing ourselves without a shell is the point
    except OSError as exc:
        print(f"cannot start {asked.argv[0]}: {exc.strerror}", file=sys.stderr)  # noqa: T201  # our only voice
        return NOT_FOUND


if __name__ == "__main__":
    sys.exit(main())
