"""A process of ours that crashes leaves nothing of its memory behind, nor does one that it started."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOW = """
import pathlib, resource
print(resource.getrlimit(resource.RLIMIT_CORE), int(pathlib.Path("/proc/self/coredump_filter").read_text(), 16))
"""
OPEN = "import pathlib; pathlib.Path('/proc/self/coredump_filter').write_text('0x33')\n"  # as a system has it


def said(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_forbidden_here_and_in_children():
    assert said(OPEN + SHOW).split()[-1] == "51", "without it, memory is dumped"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SHOW!r}])"
    after = said(f"{OPEN}from tasks import core_dumps\ncore_dumps.forbid()\ncore_dumps.forbid()\n{child}")
    assert after.strip() == "(0, 0) 0"
