"""Showing an install's progress: a bar on a terminal, a line now and then in a log, nothing when asked for quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from tasks.contract import InstallProgress
from worker.store.planner import human

if TYPE_CHECKING:
    from rich import progress as bars

_EVERY_S = 5.0

Progress = Callable[[str, int, int | None], None]
"""Called with the stage, bytes done and bytes in all (None: not known)."""


@contextmanager
def shown(label: str, *, quiet: bool = False) -> Iterator[Progress]:
    """A progress callback that writes to stderr."""
    if quiet:
        yield lambda _stage, _done, _total: None
    elif sys.stderr.isatty():
        with _bar(label) as progress:
            yield progress
    else:
        yield Lines(label, lambda line: click.echo(line, err=True))


@contextmanager
def shown_many(label: str, *, quiet: bool = False) -> Iterator[Callable[[str, InstallProgress], None]]:
    """The same for several hosts at once: a bar, or lines, for each."""
    with ExitStack() as stack:
        by_node: dict[str, Progress] = {}

        def told(node: str, progress: InstallProgress) -> None:
            if node not in by_node:
                if quiet or not sys.stderr.isatty():
                    by_node[node] = stack.enter_context(shown(f"{label} on {node}", quiet=quiet))
                else:
                    by_node[node] = _bar_of(display, f"{label} on {node}")
            by_node[node](progress.stage, progress.done, progress.total)

        display = _display()
        if not quiet and sys.stderr.isatty():
            stack.enter_context(display)
        yield told


class Lines:
    """One line per stage, and one every few seconds within it."""

    def __init__(self, label: str, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._write = write
        self._clock = clock
        self._stage: str | None = None
        self._said = 0.0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = self._clock()
        if stage == self._stage and now - self._said < _EVERY_S:
            return
        self._stage, self._said = stage, now
        self._write(f"{self._label}: {describe(stage, done, total)}")


def describe(stage: str, done: int, total: int | None) -> str:
    """`downloading 12.0 MB of 98.4 MB`."""
    if not done:
        return str(stage)
    return f"{stage} {human(done)}" + (f" of {human(total)}" if total else "")


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    with _display() as display:
        yield _bar_of(display, label)


def _display() -> bars.Progress:
    from rich import progress as bars
    from rich.console import Console

    columns = [
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    ]
    return bars.Progress(*columns, console=Console(stderr=True), transient=True)


def _bar_of(display: bars.Progress, label: str) -> Progress:
    task = display.add_task(label, total=None)
    stage_now: str | None = None

    def update(stage: str, done: int, total: int | None) -> None:
        nonlocal stage_now
        if stage != stage_now:
            stage_now = stage
            display.reset(task, total=total, description=f"{label} {stage}")
        display.update(task, completed=done, total=total)

    return update
