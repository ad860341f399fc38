"""kill -9 at any moment leaves nothing visible or the finished model; a full disk leaves nothing; one store, many."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.waiting import until
from tests.worker.store.models import GGUF, SHA256, FileServer, serving
from worker.store import journal
from worker.store.installer import install
from worker.store.planner import InstallSpec
from worker.store.run import Transfer

ROOT = Path(__file__).resolve().parents[3]
KILLS = 22
INSTALL = """
import json, sys
from pathlib import Path
from tasks.errors import PendraError
from worker.store.installer import install
from worker.store.planner import InstallSpec
from worker.store.run import Transfer
print("ready", flush=True)
sys.stdin.readline()
transfer = Transfer(connections=2, split_bytes=50_000, tries=2, backoff_s=(0.01, 0.01))
try:
    done = install(InstallSpec(**json.loads(sys.argv[1])), Path(sys.argv[2]), lambda *_: None, transfer=transfer)
    print("fetched" if done.fetched else "there")
except PendraError as exc:
    print(exc.code, exc.message)
"""


def spec_of(server: FileServer) -> dict[str, str]:
    return {"id": "tiny:1", "source": server.url, "sha256": SHA256}


def start(spec: dict[str, str], store: Path) -> subprocess.Popen[str]:
    """An installing process, imports done, waiting for a line."""
    argv = [sys.executable, "-c", INSTALL, json.dumps(spec), str(store)]
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def visible(store: Path) -> list[bytes]:
    return [path.read_bytes() for path in store.glob("*.gguf")]


def test_killed_at_many_moments_and_tried_again(tmp_path: Path):
    """Each time in a store of its own, so that every kill hits an install and not the next one's start."""
    moments = random.Random(4)
    interrupted = 0
    with serving(FileServer(pace_s=0.01)) as server:
        for number in range(KILLS):
            store = tmp_path / str(number)
            with start(spec_of(server), store) as process:
                go(process)
                time.sleep(moments.uniform(0.0, 0.2))  # the moment is what varies
                process.kill()
                process.wait()
            assert visible(store) in ([], [GGUF])
            interrupted += visible(store) == []
            server.pace_s = 0.0
            install(InstallSpec(**spec_of(server)), store, lambda *_: None)
            server.pace_s = 0.01
            assert visible(store) == [GGUF]
            assert journal.unfinished(store) == []
    assert interrupted >= KILLS // 2  # the moments were inside of installs


def test_a_journal_that_outlived_its_install_is_gone_after_a_retry(tmp_path: Path):
    """Killed between the rename and the removal of the journal."""
    with serving(FileServer(drip=True)) as server:
        with start(spec_of(server), tmp_path) as process:
            go(process)
            ((work, _),) = until(lambda: journal.unfinished(tmp_path))
            process.kill()
            process.wait()
        kept = (work / journal.NAME).read_bytes()
        server.drip = False
        install(InstallSpec(**spec_of(server)), tmp_path, lambda *_: None)
        work.mkdir(exist_ok=True)
        (work / journal.NAME).write_bytes(kept)
        assert not install(InstallSpec(**spec_of(server)), tmp_path, lambda *_: None).fetched
    assert journal.unfinished(tmp_path) == []


def test_one_store_killed_again_and_again_goes_on_where_it_was(tmp_path: Path):
    with serving(FileServer(drip=True)) as server:
        for life in range(1, 4):
            with start(spec_of(server), tmp_path) as process:
                go(process)
                until(lambda life=life: len(server.requests) >= life)
                process.kill()
                process.wait()
        server.drip = False
        install(InstallSpec(**spec_of(server)), tmp_path, lambda *_: None)
    assert visible(tmp_path) == [GGUF]


def test_a_crash_while_a_split_model_is_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The later files are there, the first is not: nothing is listed, and the next install only renames."""
    folder = tmp_path / "origin"
    folder.mkdir()
    for part in (1, 2):
        (folder / f"big-0000{part}-of-00002.gguf").write_bytes(GGUF + bytes([part]))
    spec = InstallSpec("big:1", (folder / "big-00001-of-00002.gguf").as_uri())
    replace = Path.replace

    def crash(self: Path, goal: Path) -> Path:
        if goal.name == "big-00001-of-00002.gguf":
            raise KeyboardInterrupt
        return replace(self, goal)

    store = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            install(spec, store, lambda *_: None)
    assert [path.name for path in store.glob("*.gguf")] == ["big-00002-of-00002.gguf"]
    for path in folder.iterdir():
        path.unlink()
    assert install(spec, store, lambda *_: None).fetched
    assert len(visible(store)) == 2


def test_two_processes_on_one_store_download_once(tmp_path: Path):
    with (
        serving(FileServer(pace_s=0.01)) as server,
        start(spec_of(server), tmp_path) as one,
        start(spec_of(server), tmp_path) as two,
    ):
        go(one)
        go(two)
        said = sorted((process.communicate(timeout=30)[0]).strip() for process in (one, two))
    assert said == ["fetched", "there"]
    assert server.probes == 1
    assert visible(tmp_path) == [GGUF]


def test_two_models_at_once_do_not_wait_for_each_other(tmp_path: Path):
    with (
        serving(FileServer(stalls=[0])) as silent,
        serving(FileServer()) as server,
        start(spec_of(silent), tmp_path) as stuck,
    ):
        go(stuck)
        other = InstallSpec("other:1", f"{server.base}/other.gguf", sha256=SHA256)
        assert install(other, tmp_path, lambda *_: None).fetched
        stuck.kill()


def _can_mount() -> bool:
    argv = ["unshare", "-rm", "true"]
    try:
        return subprocess.run(argv, check=False, capture_output=True, timeout=10).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not _can_mount(), reason="needs unshare(1) and user namespaces to mount a small disk")
@pytest.mark.parametrize("told", [True, False])
def test_a_disk_that_is_too_small(tmp_path: Path, *, told: bool):
    """A real tmpfs. Told the size before: refused at once, both numbers named; not told: nothing is left on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with serving(FileServer(ranges=told)) as server:
        spec = spec_of(server)
        script = (
            'mount -t tmpfs -o size=128k none "$1" && cd "$2" && echo go | "$3" -c "$4" "$5" "$1"; '
            'find "$1" -type f -not -path "*/.locks/*"'
        )
        argv = ["unshare", "-rm", "sh", "-c", script, "sh", disk, ROOT, sys.executable, INSTALL, json.dumps(spec)]
        done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60, env=os.environ)
    _, said, *left = done.stdout.splitlines()
    assert said.startswith("disk_full ")
    assert "free and 256.1 kB are needed" in said
    assert left == []


@pytest.mark.skipif(not _can_mount(), reason="needs unshare(1) and user namespaces to mount a small disk")
def test_a_disk_that_fills_up_although_it_looked_large_enough(tmp_path: Path):
    """Two installs share the room that each of them saw."""
    disk = tmp_path / "disk"
    disk.mkdir()
    lie = "import shutil; shutil.disk_usage = lambda _: type('Usage', (), {'free': 10**12})()\n"
    with serving(FileServer()) as server:
        script = (
            'mount -t tmpfs -o size=128k none "$1" && cd "$2" && echo go | "$3" -c "$4" "$5" "$1"; '
            'find "$1" -type f -not -path "*/.locks/*"'
        )
        argv = ["unshare", "-rm", "sh", "-c", script, "sh", disk, ROOT, sys.executable]
        done = subprocess.run(
            [*argv, lie + INSTALL, json.dumps(spec_of(server))],
            check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    _, said, *left = done.stdout.splitlines()
    assert said.startswith("disk_full ")
    assert left == []


def test_a_limit_of_two_tries_does_not_hide_a_transfer(tmp_path: Path):
    """The options the killed processes ran with do install."""
    with serving(FileServer()) as server:
        transfer = Transfer(connections=2, split_bytes=50_000, tries=2)
        assert install(InstallSpec(**spec_of(server)), tmp_path, lambda *_: None, transfer=transfer).fetched
    assert len(server.requests) == 2
