"""The bridge's private key: there, whole, and read by nobody else."""

from __future__ import annotations

import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from ops.doctor.verdict import Verdict, failed, ok, warning
from tasks.settings import Settings

CHECK = "key"
_READ_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Facts:
    """`local`: the bridge speaks to this host's own API. `files`: those that may hold secrets, with their modes.

    That a key is 32 bytes in base64 was checked when the settings were read.
    """

    has_key: bool
    local: bool
    files: tuple[tuple[Path, int], ...]


def look(settings: Settings, *, local: bool = False) -> list[Verdict]:
    """`local`: as in `Facts`."""
    paths = (settings.config_path, settings.fleet_key_path, settings.workload_key_file)
    files = tuple((path, path.stat().st_mode) for path in paths if path.is_file())
    return judge(Facts(settings.gpu_worker_private_key is not None, local, files), posix=sys.platform != "win32")


def judge(facts: Facts, *, posix: bool = True) -> list[Verdict]:
    open_files = [path for path, mode in facts.files if posix and mode & _READ_BY_OTHERS]
    out = [
        failed(CHECK, f"other users can read {path}, which holds secrets", f"chmod 600 {path}") for path in open_files
    ]
    if facts.has_key:
        out.append(ok(CHECK, "GPU_WORKER_PRIVATE_KEY is an Ed25519 seed of 32 bytes"))
    elif facts.local:
        out.append(ok(CHECK, "`pendra up` made a key of its own"))
    else:
        found = "GPU_WORKER_PRIVATE_KEY is not set: this host cannot run a bridge to the API"
        out.append(
            warning(CHECK, found, "only where `pendra bridge` runs: copy it from the console (`pendra setup`)")
        )
    return out
