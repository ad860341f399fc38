"""The store is watched: dropped files are told once they have settled, removed ones at once, broken ones with why."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.waiting import until
from tests.worker.store.models import GGUF, SHA256
from worker.store.catalogue import Catalogue, Entry, Label
from worker.store.installer import install
from worker.store.planner import InstallSpec
from worker.store.upkeep import uninstall
from worker.store.watch import Sight, StoreWatch, judge

PATH = Path("/s/a.gguf")


def entry(sha256: str | None = None) -> Entry:
    return Entry("a", PATH, 10, label=Label(sha256=sha256))


@pytest.mark.parametrize(
    ("found", "mtime", "seen", "told"),
    [
        (entry(), 99.9, {}, False),  # just written
        (entry(), 50.0, {}, True),  # moved in whole
        (entry("a" * 64), 99.9, {}, True),  # an install vouches for it
        (entry(), 99.9, {PATH: Sight((99.9, 10), 3.0)}, True),  # the same for two seconds (a clock that is ahead)
        (entry(), 99.9, {PATH: Sight((99.9, 9), 3.0)}, False),  # grew meanwhile
    ],
)
def test_what_has_settled(found: Entry, mtime: float, seen: dict[Path, Sight], *, told: bool):
    looked = judge([found], {PATH: (mtime, 10)}, seen, now=5.0, wall=100.0, settle_s=1.0)
    assert (looked.settled == (found,), looked.waiting) == (told, not told)


class Told:
    def __init__(self) -> None:
        self.all: list[dict[str, str | None]] = []

    def __call__(self, entries: tuple[Entry, ...]) -> None:
        self.all.append({one.id: one.problem.code if one.problem else None for one in entries})

    @property
    def last(self) -> dict[str, str | None]:
        return self.all[-1] if self.all else {}


@pytest.fixture(params=["events", "polling"])
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Told]]:
    told = Told()
    store = tmp_path / "models"

    def polls(_folder: Path, stopping: threading.Event) -> Iterator[bool]:
        while not stopping.wait(0.02):
            yield False

    ticks = polls if request.param == "polling" else None
    poll_s = 0.05 if request.param == "polling" else 60.0
    watch = StoreWatch(Catalogue(store), told, poll_s=poll_s, settle_s=1.0, ticks=ticks)
    watch.start()
    until(lambda: request.param == "polling" or store.is_dir())
    yield store, told
    watch.stop()


def test_a_file_that_is_dropped_in_slowly_is_told_when_it_is_whole(watched: tuple[Path, Told]):
    store, told = watched
    store.mkdir(exist_ok=True)
    with (store / "a.gguf").open("wb") as file:
        for at in range(0, len(GGUF), 60_000):
            file.write(GGUF[at : at + 60_000])
            file.flush()
            time.sleep(0.05)  # the writer is slow
            assert told.last == {}
    until(lambda: told.last == {"a": None})
    (store / "a.gguf").unlink()
    until(lambda: told.last == {} and len(told.all) > 1)


def test_a_broken_file_is_told_with_its_reason(watched: tuple[Path, Told]):
    store, told = watched
    store.mkdir(exist_ok=True)
    (store / "b.gguf").write_bytes(b"<html>")
    until(lambda: told.last == {"b": "model_corrupt"})
    other = store / "b.tmp"
    other.write_bytes(GGUF)
    os.utime(other, (1, 1))
    other.replace(store / "b.gguf")
    until(lambda: told.last == {"b": None})


def test_an_install_is_told_and_an_uninstall_too(watched: tuple[Path, Told], tmp_path: Path):
    store, told = watched
    origin = tmp_path / "tiny.gguf"
    origin.write_bytes(GGUF)
    install(InstallSpec("tiny:1", origin.as_uri(), sha256=SHA256), store, lambda *_: None)
    until(lambda: told.last == {"tiny:1": None})
    uninstall("tiny:1", store)
    until(lambda: told.last == {})


def test_a_store_that_goes_away_and_comes_back(tmp_path: Path):
    told = Told()
    store = tmp_path / "models"
    watch = StoreWatch(Catalogue(store), told, poll_s=0.3, settle_s=0.0)
    watch.start()
    until(store.is_dir)
    store.rmdir()
    until(store.is_dir)
    (store / "a.gguf").write_bytes(GGUF)
    until(lambda: told.last == {"a": None})
    watch.stop()


def test_what_is_known_already_is_not_told(tmp_path: Path):
    (tmp_path / "a.gguf").write_bytes(GGUF)
    catalogue, told = Catalogue(tmp_path), Told()
    watch = StoreWatch(catalogue, told, poll_s=60, known=catalogue.entries())
    watch.look()
    assert told.all == []
