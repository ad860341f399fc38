"""Hosts for the installer: a PATH with a few of this machine's tools and stand-ins for docker, nvidia-smi and uname.

Each stand-in is a shell script that notes how it was called in `calls`.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = [
    *("base64", "basename", "cat", "chmod", "cut", "dirname", "env", "grep", "head", "id", "install", "mkdir", "mv"),
    *("od", "printf", "rm", "sed", "sh", "sort", "stty", "tr", "true", "uname"),
]


RUNTIMES = '{"nvidia":{},"runc":{}}'
NO_RUNTIME = '{"runc":{}}'
ROOTFUL = '["name=seccomp,profile=builtin"]'
ROOTLESS = '["name=seccomp,profile=builtin","name=rootless"]'


def docker(
    *, compose: str | None = "2.29.1", security: str = ROOTFUL, runtimes: str = RUNTIMES, fault: str = ""
) -> str:
    """A `docker` that says these things; `compose` None: without the plugin."""
    version = f"echo {compose}" if compose else 'echo "docker: unknown command: docker compose" >&2; exit 1'
    info = f"echo {fault!r} >&2; exit 1" if fault else f"printf '%s %s\\n' '{security}' '{runtimes}'"
    return f"""
case "$*" in
    info*) {info} ;;
    "compose version --short") {version} ;;
    *"keys show"*) echo "worker public key  PUBLICKEY" ;;
esac
"""


GPU = 'echo "GPU 0: NVIDIA H200 (UUID: GPU-1)"'


@dataclass
class Host:
    """A machine in a folder. `programs`: name → what the stand-in does."""

    folder: Path
    programs: dict[str, str] = field(default_factory=dict)
    system: str = "Linux"
    packages: str = "apt-get"

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        where = {
            "PATH": str(self._path()),
            "HOME": str(self.folder / "home"),
            "PENDRA_SECRETS": str(self.secrets),
            "PENDRA_ENV_FILE": str(self.env_file),
            "PENDRA_PREFIX": str(self.folder / "prefix"),
            "PENDRA_UNITS": str(self.folder / "units"),
            "NVIDIA_CONFIG": str(self.folder / "nvidia.toml"),
        }
        argv = ["/bin/sh", str(ROOT / "ops/install.sh"), *args]
        return subprocess.run(
            argv, env=where | env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def env_file(self) -> Path:
        return self.folder / "env"

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text().strip()

    def settings(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.env_file.read_text().splitlines())

    def _path(self) -> Path:
        path = self.folder / "bin"
        if not path.exists():
            path.mkdir(parents=True)
            for tool in TOOLS:
                (path / tool).symlink_to(str(shutil.which(tool)))
            said = {"uname": f'case "$1" in -s) echo {self.system} ;; -m) echo x86_64 ;; *) echo host ;; esac'}
            for name, does in (said | {self.packages: ""} | self.programs).items():
                self._stand_in(path / name, does)
        return path

    def _stand_in(self, path: Path, does: str) -> None:
        path.unlink(missing_ok=True)
        note = f'echo "{path.name} $*" >>"{self.folder}/calls"'
        path.write_text(f"#!/bin/sh\n{note}\n{does}\n")
        path.chmod(0o755)
