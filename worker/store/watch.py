"""Watching the store: who drops a model file in, or takes one away, is noticed without a restart.

The kernel's events (watchfiles) wake us; where there are none (network disks) we look every `poll_s` anyway. A file
that somebody is still writing is not told before it has settled; what an install put there is told at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.logs import event
from worker.store.catalogue import Catalogue, Entry

_LOG = logging.getLogger("pendra.store")
SETTLE_S = 1.0
_TICK_MS = 250
_RETRY_S = 5.0

Stamp = tuple[float, int]
"""Modification time and size of a file."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A file as it has been since `since` (monotonic)."""

    stamp: Stamp
    since: float


@dataclass(frozen=True, slots=True)
class Looked:
    """`settled` can be told; `waiting`: look again soon."""

    settled: tuple[Entry, ...]
    seen: dict[Path, Sight]
    waiting: bool


def judge(
    entries: Iterable[Entry],
    stamps: Mapping[Path, Stamp],
    seen: Mapping[Path, Sight],
    *,
    now: float,
    wall: float,
    settle_s: float,
) -> Looked:
    """Which files are no longer being written: installed ones, old ones, and those that stayed the same. Pure."""
    settled, sights, waiting = [], {}, False
    for entry in entries:
        stamp = stamps.get(entry.path)
        if stamp is None:
            continue
        before = seen.get(entry.path)
        sight = before if before is not None and before.stamp == stamp else Sight(stamp, now)
        sights[entry.path] = sight
        age = wall - stamp[0]
        if entry.label.sha256 or age >= settle_s or now - sight.since >= settle_s:
            settled.append(entry)
        else:
            waiting = True
    return Looked(tuple(settled), sights, waiting)


class StoreWatch:
    """Calls `changed` with all settled models, on its own thread, at each change.

    `known`: what the caller has seen already; nothing is told of it. `changed` must not block for long. `start` once,
    `stop` once.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        changed: Callable[[tuple[Entry, ...]], None],
        *,
        poll_s: float,
        known: tuple[Entry, ...] = (),
        settle_s: float = SETTLE_S,
        ticks: Callable[[Path, threading.Event], Iterator[bool]] | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._changed = changed
        self._poll_s = poll_s
        self._settle_s = settle_s
        self._ticks = ticks or _ticks
        self._seen = {path: Sight(stamp, float("-inf")) for path, stamp in _stamps(known).items()}
        self._told = [_known(entry) for entry in known]
        self._waiting = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def look(self) -> None:
        """One look at the store. Never raises for a file's sake."""
        entries = self._catalogue.entries()
        found = judge(
            entries, _stamps(entries), self._seen, now=time.monotonic(), wall=time.time(), settle_s=self._settle_s
        )
        self._seen, self._waiting = found.seen, found.waiting
        known = [_known(entry) for entry in found.settled]
        if known != self._told:
            self._told = known
            event(_LOG, logging.INFO, "store.changed", models=len(known))
            self._changed(found.settled)

    def _run(self) -> None:
        looked = 0.0
        for stirred in self._ticks(self._catalogue.folder, self._stopping):
            now = time.monotonic()
            if stirred or self._waiting or now - looked >= self._poll_s:
                looked = now
                self.look()


def _ticks(folder: Path, stopping: threading.Event) -> Iterator[bool]:
    """True when something stirred in the folder, False now and then. Ends when `stopping` is set."""
    from watchfiles import watch  # noqa: PLC0415  # only who watches

    yield True
    while not stopping.is_set():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for changes in watch(
                folder,
                watch_filter=_Visible(folder),
                stop_event=stopping,
                raise_interrupt=False,
                debounce=100,
                step=20,
                rust_timeout=_TICK_MS,
                yield_on_timeout=True,
            ):
                yield bool(changes)
                if not folder.is_dir():  # its events have ended with it
                    break
        except (OSError, RuntimeError) as exc:  # no inotify left, or a folder that is not there
            event(_LOG, logging.WARNING, "store.polling", error=type(exc).__name__)
            yield from _polled(stopping)


def _polled(stopping: threading.Event) -> Iterator[bool]:
    """Without events: a tick now and then, for as long as it makes sense not to try again."""
    end = time.monotonic() + _RETRY_S
    while time.monotonic() < end and not stopping.wait(_TICK_MS / 1000):
        yield False


class _Visible:
    """Files of ours that are no models (parts, journals, locks) stir all the time while something is installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, _change: object, path: str) -> bool:
        try:
            parts = Path(path).relative_to(self._folder).parts
        except ValueError:
            return True
        return not any(part.startswith(".") for part in parts)


def _stamps(entries: Iterable[Entry]) -> dict[Path, Stamp]:
    found = {}
    for entry in entries:
        try:
            found[entry.path] = (entry.path.stat().st_mtime, entry.size_bytes)
        except OSError:  # removed while we looked
            continue
    return found


def _known(entry: Entry) -> tuple[object, ...]:
    """What somebody would want to be told of."""
    problem = entry.problem.message if entry.problem else None
    return (entry.id, entry.path, entry.size_bytes, entry.purpose, entry.label.sha256, problem)
