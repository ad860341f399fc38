"""No crash of ours writes memory, and with it prompts and keys, to a disk.

Two settings, because a kernel that pipes dumps to a program (systemd-coredump, apport) heeds no size limit: the limit
itself (RLIMIT_CORE, setrlimit(2)), and the filter that says which memory a dump holds (core(5)): none. Children
inherit both.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

FILTER = Path("/proc/self/coredump_filter")


def forbid() -> None:
    """For this process and those it starts from now on. Idempotent; what the system does not offer is left out."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  # POSIX only

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        FILTER.write_text("0")
