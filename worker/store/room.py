"""Room on the store's disk, shared by all installs of the host: what one was promised, another cannot have.

An install writes into its work folder how large that may become; what of it has not come yet is taken for others.
The promise of an install that has stopped or died counts no more.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
from pathlib import Path

from tasks import atomic_file, file_lock
from worker.store import journal, workplace
from worker.store.planner import LOCKS, WORK, check_room

NAME = "room"
_BLOCK = 512  # bytes, what `st_blocks` counts in whatever the disk's blocks are (POSIX)
_WAIT_S = 30.0  # the lock is held for some file names' time


def claim(work: Path, needed: int) -> None:
    """Promise `needed` more bytes to the install of this work folder. Blocking. Raises DiskFullError, OSError."""
    store = work.parent.parent
    with file_lock.held(store / LOCKS / "room.lock", _WAIT_S):
        check(store, needed, besides=work)
        atomic_file.write(work / NAME, str(max(_promise(work), _used(work) + needed)))


def check(store: Path, needed: int, *, besides: Path | None = None) -> None:
    """Whether it fits beside what others were promised. Raises DiskFullError."""
    promised = sum(_outstanding(work) for work in _at_work(store) if work != besides)
    check_room(needed, shutil.disk_usage(store).free, store, promised)


def _at_work(store: Path) -> list[Path]:
    """The work folders of installs that run now, in whatever process."""
    try:
        works = [path.parent for path in (store / WORK).glob(f"*/{NAME}")]
    except OSError:
        return []
    return [work for work in works if workplace.busy(store, work.name.removesuffix(".d"))]


def _outstanding(work: Path) -> int:
    return max(0, _promise(work) - _used(work))


def _promise(work: Path) -> int:
    try:
        return int((work / NAME).read_text())
    except (OSError, ValueError):
        return 0


def _used(work: Path) -> int:
    """Bytes on the disk of what is fetched."""
    return sum(_size(path) for path in work.rglob("*") if path.name not in (NAME, journal.NAME))


def _size(path: Path) -> int:
    """A file that is written in several places at once has holes, which take no room yet."""
    with contextlib.suppress(OSError):
        found = path.stat()
        if stat.S_ISREG(found.st_mode):
            return min(found.st_size, getattr(found, "st_blocks", found.st_size) * _BLOCK)
    return 0
