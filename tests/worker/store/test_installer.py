"""Installing: a model is visible only when it is whole and right, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from tasks.errors import NotFoundError
from tests.worker.store.models import GGUF, SHA256, FileServer, serving
from worker.store import journal, sidecar
from worker.store.catalogue import Catalogue
from worker.store.errors import ChecksumError, DiskFullError, DownloadError, SourceError, StoreError
from worker.store.installer import install
from worker.store.planner import InstallSpec, Stage
from worker.store.run import Stop, Stopped, Transfer
from worker.store.upkeep import uninstall

Seen = list[tuple[Stage, int, int | None]]


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    path = tmp_path / "origin" / "tiny.gguf"
    path.parent.mkdir()
    path.write_bytes(GGUF)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "models"


def spec(origin: Path, **more: object) -> InstallSpec:
    values: dict[str, object] = {"id": "tiny:1", "source": origin.as_uri(), "sha256": SHA256, "licence": "MIT"}
    return InstallSpec(**(values | more))  # type: ignore[arg-type]


def nothing(_stage: Stage, _done: int, _total: int | None) -> None:
    """Progress that nobody watches."""


def names(store: Path) -> set[str]:
    """What is in the store, without empty housekeeping."""
    found = {path.relative_to(store) for path in store.rglob("*") if path.is_file()}
    return {str(path) for path in found if path.parts[0] != ".locks"}


def test_an_install_leaves_the_file_and_its_sidecar_and_nothing_else(origin: Path, store: Path):
    done = install(spec(origin), store, nothing)
    assert done.fetched
    assert done.path.read_bytes() == GGUF
    assert names(store) == {"tiny.gguf", "tiny.gguf.meta.json"}
    meta = json.loads((store / "tiny.gguf.meta.json").read_text())
    assert meta.pop("installed_at") > 1_700_000_000
    assert meta == {
        "id": "tiny:1",
        "purpose": "chat",
        "source": origin.as_uri(),
        "revision": "",
        "sha256": SHA256,
        "size": len(GGUF),
        "licence": "MIT",
        "parts": [],
        "lora": [],
    }


def test_progress_goes_through_the_stages(origin: Path, store: Path):
    seen: Seen = []
    install(spec(origin), store, lambda *step: seen.append(step))
    assert list(dict.fromkeys(stage for stage, _, _ in seen)) == [
        Stage.RESOLVING,
        Stage.DOWNLOADING,
        Stage.VERIFYING,
        Stage.DONE,
    ]
    assert seen[-1] == (Stage.DONE, len(GGUF), len(GGUF))


def test_a_second_install_does_nothing(origin: Path, store: Path):
    install(spec(origin), store, nothing)
    origin.unlink()
    assert not install(spec(origin), store, nothing).fetched


def test_a_file_dropped_in_by_hand_is_checked_and_adopted(origin: Path, store: Path):
    store.mkdir()
    shutil.copy(origin, store / "tiny.gguf")
    origin.unlink()
    assert not install(spec(origin), store, nothing).fetched
    assert sidecar.read(store / "tiny.gguf") is not None


def test_a_wrong_file_under_the_name_is_put_aside(origin: Path, store: Path):
    store.mkdir()
    (store / "tiny.gguf").write_bytes(GGUF[:-5])
    assert install(spec(origin), store, nothing).fetched
    assert (store / "tiny.gguf").read_bytes() == GGUF
    assert (store / ".quarantine/tiny.gguf.rejected").read_bytes() == GGUF[:-5]


def test_a_damaged_install_is_repaired(origin: Path, store: Path):
    install(spec(origin), store, nothing)
    os.truncate(store / "tiny.gguf", 100)
    assert install(spec(origin), store, nothing).fetched
    assert (store / "tiny.gguf").read_bytes() == GGUF


def test_a_wrong_hash_names_both_and_nothing_becomes_visible(origin: Path, store: Path):
    with pytest.raises(ChecksumError) as caught:
        install(spec(origin, sha256="f" * 64), store, nothing)
    assert SHA256 in caught.value.message
    assert "f" * 64 in caught.value.message
    assert caught.value.code == "checksum_mismatch"
    assert names(store) == {".quarantine/tiny.gguf.rejected"}
    assert install(spec(origin), store, nothing).fetched  # and the next try is not spoilt by it


def test_what_is_no_gguf_is_refused(origin: Path, store: Path):
    origin.write_bytes(b"<html>not found</html>")
    with pytest.raises(StoreError, match="does not begin with GGUF") as caught:
        install(spec(origin, sha256=""), store, nothing)
    assert caught.value.code == "model_corrupt"
    assert names(store) == {".quarantine/tiny.gguf.rejected"}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_no_room_is_told_before_anything_is_fetched(origin: Path, store: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000, 900, 100))
    with pytest.raises(DiskFullError, match=r"100 bytes free and 256.1 kB are needed"):
        install(spec(origin), store, nothing)
    assert names(store) == set()


def test_a_disk_that_fills_up_on_the_way(origin: Path, store: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_self: object, _index: int, _block: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.store.partial.Partial.write", full)
    with pytest.raises(DiskFullError, match="is full"):
        install(spec(origin), store, nothing)
    assert names(store) == set()  # a full disk is not kept full


def test_a_store_that_cannot_be_made(origin: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used as models folder"):
        install(spec(origin), tmp_path / "file" / "models", nothing)


def test_a_source_that_is_not_there(tmp_path: Path, store: Path):
    with pytest.raises(DownloadError, match="No such file"):
        install(spec(tmp_path / "gone.gguf"), store, nothing)


QUICK = Transfer(tries=2, backoff_s=(0.001, 0.001))


def test_a_download_that_broke_off_is_continued_by_the_next_install(origin: Path, store: Path):
    with serving(FileServer(cuts=[100_000, 0, 0])) as server:
        with pytest.raises(DownloadError):
            install(spec(origin, source=server.url), store, nothing, transfer=QUICK)
        ((work, kept),) = journal.unfinished(store)
        assert (kept.standing, kept.model) == ("failed", "tiny:1")
        assert (work / "tiny.gguf.part").stat().st_size == 100_000
        server.cuts.clear()
        seen: Seen = []
        install(spec(origin, source=server.url), store, lambda *step: seen.append(step), transfer=QUICK)
    assert server.requests[-1]["range"].startswith("bytes=100000-")
    assert names(store) == {"tiny.gguf", "tiny.gguf.meta.json"}


def test_the_journal_is_there_before_anything_is_asked(origin: Path, store: Path):
    found: list[bool] = []

    def look(server: FileServer) -> None:
        found.append(bool(journal.unfinished(store)))

    with serving(FileServer(before=look)) as server:
        install(spec(origin, source=server.url), store, nothing)
    assert found == [True]
    assert journal.unfinished(store) == []


def test_a_mirror_helps_when_the_source_fails(origin: Path, store: Path):
    with serving(FileServer(statuses=[404])) as bad, serving(FileServer()) as good:
        done = install(spec(origin, source=bad.url, mirrors=(good.url,)), store, nothing, transfer=QUICK)
    assert done.path.read_bytes() == GGUF
    assert len(good.requests) == 1


def test_a_mirror_helps_when_the_source_has_a_wrong_file(origin: Path, store: Path):
    with serving(FileServer(content=GGUF[:-1] + b"!")) as bad, serving(FileServer()) as good:
        done = install(spec(origin, source=bad.url, mirrors=(good.url,)), store, nothing, transfer=QUICK)
        assert done.path.read_bytes() == GGUF
        (store / "tiny.gguf").unlink()
        with pytest.raises(ChecksumError):
            install(spec(origin, source=bad.url, mirrors=(bad.url,)), store, nothing, transfer=QUICK)
    assert not (store / "tiny.gguf").exists()


@pytest.mark.parametrize(("why", "kept"), [(Stop.KEEP, "paused"), (Stop.LATER, "running"), (Stop.DISCARD, None)])
def test_a_stopped_install_keeps_what_its_reason_says(origin: Path, store: Path, why: Stop, kept: str | None):
    with serving(FileServer(stalls=[50_000])) as server:
        seen: Seen = []
        with pytest.raises(Stopped) as caught:
            install(
                spec(origin, source=server.url),
                store,
                lambda *step: seen.append(step),
                stop=lambda: why if seen and seen[-1][1] else None,
            )
    assert caught.value.code == ("draining" if why is Stop.LATER else "cancelled")
    assert [found.standing for _, found in journal.unfinished(store)] == ([kept] if kept else [])
    assert "tiny.gguf" not in names(store)
    assert install(spec(origin), store, nothing).fetched


def test_leftovers_that_no_journal_explains_are_swept(origin: Path, store: Path):
    stray = store / ".installs" / "other.gguf.d"
    stray.mkdir(parents=True)
    (stray / "other.gguf.part").write_bytes(b"x" * 1000)
    install(spec(origin), store, nothing)
    assert not stray.exists()


def test_a_model_has_one_file(origin: Path, store: Path):
    install(spec(origin), store, nothing)
    other = origin.with_name("other.gguf")
    shutil.copy(origin, other)
    with pytest.raises(SourceError, match=r"installed already, as tiny\.gguf"):
        install(spec(other), store, nothing)


def test_a_split_model_is_installed_whole(origin: Path, store: Path):
    files = {f"/m/big-0000{part}-of-00003.gguf": GGUF + bytes([part]) for part in (1, 2, 3)}
    seen: Seen = []
    folder = origin.parent
    for path, data in files.items():
        (folder / Path(path).name).write_bytes(data)
    first = (folder / "big-00001-of-00003.gguf").as_uri()
    done = install(spec(origin, source=first, sha256=""), store, lambda *step: seen.append(step))
    assert {name for name in names(store) if name.endswith(".gguf")} == {Path(path).name for path in files}
    assert [part.name for part in done.sidecar.parts] == sorted(Path(path).name for path in files)
    assert seen[-2][1:] != (0, 0)
    assert max(done for stage, done, _ in seen if stage is Stage.DOWNLOADING) == 3 * (len(GGUF) + 1)
    assert not install(spec(origin, source=first, sha256=""), store, nothing).fetched
    (store / "big-00002-of-00003.gguf").unlink()
    assert install(spec(origin, source=first, sha256=""), store, nothing).fetched
    assert len(uninstall("tiny:1", store)) == 3
    assert names(store) == set()


def test_credentials_of_a_source_stay_out_of_the_sidecar(origin: Path, store: Path):
    with serving(FileServer()) as server:
        url = server.url.replace("http://", "http://user:hunter2@") + "?signature=s3cret"
        install(spec(origin, source=url), store, nothing)
    for path in store.rglob("*"):
        if path.suffix == ".json":
            assert "hunter2" not in path.read_text()
            assert "s3cret" not in path.read_text()


def test_two_installs_at_once_fetch_once(origin: Path, store: Path):
    entered, go = threading.Event(), threading.Event()
    results: list[bool] = []
    seen: Seen = []

    def slow(_stage: Stage, _done: int, _total: int | None) -> None:
        entered.set()
        go.wait(30)

    def waiting(stage: Stage, done: int, total: int | None) -> None:
        seen.append((stage, done, total))
        go.set()

    first = threading.Thread(target=lambda: results.append(install(spec(origin), store, slow).fetched))
    first.start()
    assert entered.wait(30)
    second = threading.Thread(target=lambda: results.append(install(spec(origin), store, waiting).fetched))
    second.start()
    first.join(30)
    second.join(30)
    assert sorted(results) == [False, True]
    assert seen[0][0] is Stage.WAITING


def test_the_lock_of_a_killed_install_does_not_stay(origin: Path, store: Path):
    code = (
        "import sys; from pathlib import Path; from tasks.file_lock import held\n"
        "with held(Path(sys.argv[1]), 5): print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(store / ".locks" / "tiny.gguf.lock")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait(10)
    assert install(spec(origin), store, nothing).fetched


def test_what_was_installed_is_what_the_host_serves(origin: Path, store: Path):
    with pytest.raises(ChecksumError):
        install(spec(origin, sha256="f" * 64), store, nothing)
    install(spec(origin, purpose="embedding"), store, nothing)
    entries = Catalogue(store).entries()
    assert [(entry.id, entry.purpose, entry.problem) for entry in entries] == [("tiny:1", "embedding", None)]


def test_uninstall_removes_file_and_sidecar(origin: Path, store: Path):
    install(spec(origin), store, nothing)
    assert uninstall("tiny:1", store) == [store / "tiny.gguf"]
    assert names(store) == set()
    with pytest.raises(NotFoundError) as caught:
        uninstall("tiny:1", store)
    assert caught.value.code == "model_not_installed"


def test_uninstall_removes_all_parts_of_a_split_file(store: Path):
    store.mkdir()
    for name in ("big-00001-of-00002.gguf", "big-00002-of-00002.gguf", "other.gguf", "bigger.gguf"):
        (store / name).write_bytes(GGUF)
    uninstall("big", store)
    assert names(store) == {"other.gguf", "bigger.gguf"}
