"""Room is promised once: two installs that would each fit alone are not both let in."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fakes.waiting import PATIENCE_S, until
from tests.worker.store.models import GGUF, SHA256, FileServer, serving
from worker.store import room, workplace
from worker.store.errors import DiskFullError
from worker.store.installer import install
from worker.store.planner import InstallSpec
from worker.store.run import Stop, Transfer


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how much is free."""

    def has(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, free))

    return has


def work_of(store: Path, name: str) -> Path:
    folder = store / ".installs" / f"{name}.d"
    folder.mkdir(parents=True)
    return folder


def test_what_others_were_promised_is_not_free(tmp_path: Path, disk: Callable[[int], None]) -> None:
    disk(1000)
    one, two = work_of(tmp_path, "one.gguf"), work_of(tmp_path, "two.gguf")
    room.claim(one, 700)
    room.claim(two, 900)  # nobody works on the first any more
    with workplace.now_or_never(workplace.lock_of(tmp_path, "one.gguf"), "one"):
        room.claim(two, 300)
        with pytest.raises(
            DiskFullError, match=r"1\.0 kB free, of which other installs take 700 bytes, and 301 bytes"
        ):
            room.claim(two, 301)
        room.claim(one, 1000)  # its own promise is no obstacle
        (one / "one.gguf.part").write_bytes(b"x" * 10_000)  # its bytes have come: the disk says so itself
        room.claim(two, 1000)


def test_two_installs_that_do_not_fit_together(tmp_path: Path, disk: Callable[[int], None]) -> None:
    size = len(GGUF)
    disk(size + size // 2)
    stop = threading.Event()
    quick = Transfer(connections=1, stall_s=20)
    with serving(FileServer(stalls=[10_000, 10_000])) as server:
        first = InstallSpec("first:1", server.url, SHA256, size)
        second = InstallSpec("second:1", f"{server.base}/second.gguf", SHA256, size)
        stopped = threading.Thread(target=_install, args=(first, tmp_path, quick, stop))
        stopped.start()
        until(lambda: list(tmp_path.glob(".installs/tiny.gguf.d/*.part")))
        with pytest.raises(DiskFullError, match="other installs take"):
            install(second, tmp_path, lambda *_: None)
        assert not (tmp_path / ".installs" / "second.gguf.d").exists()
        stop.set()
        stopped.join(PATIENCE_S)
        server.stalls = []
        assert install(second, tmp_path, lambda *_: None).fetched  # the first one was cancelled


def _install(spec: InstallSpec, store: Path, transfer: Transfer, stop: threading.Event) -> None:
    with pytest.raises(Exception, match="cancelled"):
        install(spec, store, lambda *_: None, transfer=transfer, stop=lambda: Stop.KEEP if stop.is_set() else None)
