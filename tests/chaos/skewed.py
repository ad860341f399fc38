"""Runs a module as a process whose wall clock can be put forward or back: `python -m tests.chaos.skewed MODULE ARG…`.

`CHAOS_CLOCK` names a file that holds an offset in seconds (0 while it is not there); `time.time` adds it from then
on. Everything of ours that asks for the time of day asks `time.time`; the monotonic clock stays, as it does when a
real clock is set.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import time
from pathlib import Path


def install(file: Path) -> None:
    """Before anything is imported that keeps `time.time` in a default argument."""
    real = time.time

    def skewed() -> float:
        with contextlib.suppress(OSError, ValueError):
            return real() + float(file.read_text())
        return real()

    time.time = skewed


def main() -> None:
    if "CHAOS_CLOCK" in os.environ:
        install(Path(os.environ["CHAOS_CLOCK"]))
    module = sys.argv[1]
    del sys.argv[0]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
