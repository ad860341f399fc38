"""Executes a Dockerfile's steps in chroots: `python3 -m ops.docker.replay --base ROOTFS --work DIR DOCKERFILE`.

For machines without a container engine. What it shows: every RUN and COPY works on the distribution the base image
is made of, as the image's user. What it does not show: the base image itself and the engine. Linux, root; standard
library only.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ops.docker import dockerfile
from ops.docker.dockerfile import DockerfileError, Instruction, Stage

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOST_FILES = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/ssl/certs/ca-certificates.crt",
)  # a site's own name server and CA
_MOUNTS = """
mount --make-rprivate /
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
"""


@dataclass(slots=True)
class Built:
    """A stage as it grows: its file system and what the instructions so far have set."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    args: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    folder: str = "/"
    argv: list[str] = field(default_factory=list)


class Replay:
    """`base`: a root file system that stands for every FROM image; `context`: what COPY copies from."""

    def __init__(self, base: Path, work: Path, context: Path) -> None:
        self._base, self._work, self._context = base, work, context
        self._stages: dict[str, Built] = {}

    def build(self, stages: list[Stage]) -> Built:
        """Run all stages; the last one. Raises CalledProcessError when a step fails, DockerfileError."""
        for number, stage in enumerate(stages):
            built = Built(self._fresh(str(number)))
            self._stages[stage.name or str(number)] = built
            for step in stage.steps:
                _say(f"{step.kind} {step.text[:100]}")
                self._do(step, built)
        return built

    def _fresh(self, name: str) -> Path:
        root = self._work / f"stage-{name}"
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["/bin/cp", "-a", "--reflink=auto", str(self._base), str(root)], check=True)
        return root

    def _do(self, step: Instruction, built: Built) -> None:
        match step.kind:
            case "RUN":
                self._run(step, built)
            case "COPY":
                self._copy(step, built)
            case "ENV":
                said = dockerfile.assignments(step.text).items()
                built.env |= {name: dockerfile.expand(value, built.env) for name, value in said}
            case "ARG":
                built.args |= dockerfile.assignments(step.text)
            case "USER":
                built.user = step.text
            case "WORKDIR":
                built.folder = dockerfile.expand(step.text, built.env)
                _below(built.root, built.folder).mkdir(parents=True, exist_ok=True)
            case _:
                built.argv = dockerfile.command(step.text)

    def _run(self, step: Instruction, built: Built) -> None:
        binds = [self._cache(value) for name, value in step.options if name == "mount"]
        enter(built, dockerfile.command(step.text), binds=binds)

    def _cache(self, mount: str) -> tuple[Path, str]:
        said = dict(part.partition("=")[::2] for part in mount.split(","))
        if said.get("type") != "cache":
            raise DockerfileError(f"--mount={mount}: only type=cache is understood here")
        folder = self._work / "cache" / (said.get("id") or said["target"].strip("/"))
        folder.mkdir(parents=True, exist_ok=True)
        return folder, said["target"]

    def _copy(self, step: Instruction, built: Built) -> None:
        stage = step.option("from")
        source = self._stages[stage].root if stage else self._context
        *froms, to = step.text.split()
        target = _below(built.root, to if to.startswith("/") else f"{built.folder}/{to}")
        for name in froms:
            _copy_one(_below(source, name), target, whole=len(froms) == 1 and not to.endswith("/"))


def enter(
    built: Built, argv: list[str], *, binds: list[tuple[Path, str]] | None = None, read_only: bool = False
) -> None:
    """Run `argv` in the stage as its user, in a mount namespace of its own. Raises CalledProcessError."""
    lines = ["set -e", f"ROOT={shlex.quote(str(built.root))}", _MOUNTS]
    if read_only:
        lines.append(
            'mount --bind "$ROOT" "$ROOT"; mount -o remount,bind,ro "$ROOT"; mount -t tmpfs tmpfs "$ROOT/tmp"'
        )
        lines += ['mount -t proc proc "$ROOT/proc"', 'mount --rbind /dev "$ROOT/dev"']
    for path in _HOST_FILES:
        lines.append(f'[ ! -e "$ROOT{path}" ] || mount --bind {path} "$ROOT{path}"')
    for folder, target in binds or []:
        inside = _below(built.root, target)
        if not inside.exists():
            inside.mkdir(parents=True)
        lines.append(f"mount --bind {shlex.quote(str(folder))} {shlex.quote(str(inside))}")
    env = (
        {"HOME": "/root", "PIP_CERT": _HOST_FILES[-1], "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | built.args | built.env
    )
    words = ["env", "-i", *(f"{name}={value}" for name, value in env.items()), *argv]
    inner = f"cd {shlex.quote(built.folder)} && exec {shlex.join(words)}"
    user = [] if built.user == "root" else [f"--userspec={built.user}"]
    lines.append("exec " + shlex.join(["chroot", *user, str(built.root), "/bin/sh", "-c", inner]))
    subprocess.run(["/usr/bin/unshare", "--mount", "/bin/sh", "-c", "\n".join(lines)], check=True)


def _copy_one(source: Path, target: Path, *, whole: bool) -> None:
    """A folder's content goes into `target`, a file becomes it (or goes into it), as COPY has it."""
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        return
    target = target if whole and not target.is_dir() else target / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _below(root: Path, inside: str) -> Path:
    return root / inside.lstrip("/")


def _say(line: str) -> None:
    print(f"==> {line}", flush=True)  # noqa: T201  # a program's own output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="root file system that stands for the base image")
    parser.add_argument("--work", type=Path, required=True, help="folder for stages and caches")
    parser.add_argument("--model", type=Path, help="folder of models to answer one question from")
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    built = Replay(asked.base, asked.work, Path.cwd()).build(dockerfile.stages(asked.file.read_text()))
    state = asked.work / "state"
    state.mkdir(exist_ok=True)
    shutil.chown(state, 10001, 10001)
    binds = [(state, "/var/lib/pendra"), *([(asked.model, "/models")] if asked.model else [])]
    for argv in (["pendra", "--version"], ["pendra", "demo"] if asked.model else ["pendra", "--help"]):
        _say(f"as {built.user}, read-only: {' '.join(argv)}")
        enter(built, argv, binds=binds, read_only=True)
    _say(f"CMD {' '.join(built.argv)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
