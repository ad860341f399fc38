"""Verify, prune, export and import."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tasks.errors import NotFoundError
from tests.worker.store.models import GGUF, SHA256, FileServer, serving
from worker.store import bundle, journal, sidecar, workplace
from worker.store.errors import ChecksumError, DownloadError, ModelInUseError, SourceError
from worker.store.installer import install
from worker.store.planner import InstallSpec
from worker.store.run import Transfer
from worker.store.upkeep import prune, uninstall, verify


def nothing(*_: object) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """With `tiny:1`, the split `big:1`, and `hand`, dropped in by hand."""
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "tiny.gguf").write_bytes(GGUF)
    for part in (1, 2):
        (origin / f"big-0000{part}-of-00002.gguf").write_bytes(GGUF + bytes([part]))
    found = tmp_path / "models"
    install(InstallSpec("tiny:1", (origin / "tiny.gguf").as_uri(), SHA256, licence="MIT"), found, nothing)
    install(InstallSpec("big:1", (origin / "big-00001-of-00002.gguf").as_uri(), purpose="embedding"), found, nothing)
    (found / "hand.gguf").write_bytes(GGUF)
    return found


def verdicts(store: Path, model_id: str | None = None) -> dict[str, str]:
    return {one.id: one.problem if one.hashed else "unhashed" for one in verify(store, model_id, nothing)}


def test_what_is_whole_verifies(store: Path):
    assert verdicts(store) == {"tiny:1": "", "big:1": "", "hand": "unhashed"}


def test_a_changed_byte_is_found_and_both_hashes_are_named(store: Path):
    second = store / "big-00002-of-00002.gguf"
    second.write_bytes(second.read_bytes()[:-1] + b"!")
    (problem,) = verdicts(store, "big:1").values()
    assert "big-00002-of-00002.gguf has the SHA-256" in problem
    with pytest.raises(NotFoundError):
        list(verify(store, "nope", nothing))


def test_prune_removes_what_nobody_continues(store: Path):
    quick = Transfer(tries=1)
    with serving(FileServer(cuts=[1000, 0])) as server, pytest.raises(DownloadError):
        install(InstallSpec("p:1", f"{server.base}/p.gguf", SHA256), store, nothing, transfer=quick)
    running = store / ".installs" / "r.gguf.d"
    running.mkdir()
    journal.write(running, journal.begin(InstallSpec("r:1", "https://h/r.gguf"), None))
    (store / ".quarantine").mkdir()
    (store / ".quarantine" / "x.gguf.rejected").write_bytes(b"x")
    assert {path.name for path, _ in prune(store)} == {"p.gguf.d", "x.gguf.rejected"}
    assert running.exists()
    assert set(verdicts(store)) == {"tiny:1", "big:1", "hand"}


def test_uninstall_removes_partials_too_but_not_while_they_come(store: Path):
    work = store / ".installs" / "r.gguf.d"
    work.mkdir()
    journal.write(work, journal.begin(InstallSpec("r:1", "https://h/r.gguf"), None))
    with workplace.now_or_never(workplace.lock_of(store, "r.gguf"), "r:1"), pytest.raises(ModelInUseError) as caught:
        uninstall("r:1", store)
    assert caught.value.code == "install_running"
    assert uninstall("r:1", store) == []
    assert not work.exists()


@pytest.mark.parametrize("to", ["folder", "models.tar", "models.tar.gz"])
def test_from_one_site_to_another(store: Path, tmp_path: Path, to: str):
    out = tmp_path / "out" / to
    bundle.export(("tiny:1", "big:1", "hand"), store, out, nothing)
    there = tmp_path / "there"
    assert {made.id for made in bundle.bring_in(out, there, nothing)} == {"tiny:1", "big:1", "hand"}
    assert {path.name for path in there.glob("*.gguf")} == {path.name for path in store.glob("*.gguf")}
    before, after = (sidecar.read(folder / "tiny.gguf") for folder in (store, there))
    assert before is not None
    assert after is not None
    assert after.model_copy(update={"installed_at": before.installed_at}) == before
    assert verdicts(there) == {"tiny:1": "", "big:1": "", "hand": ""}
    assert bundle.bring_in(out, there, nothing)  # again: they are there


def test_a_file_that_was_changed_on_its_way_is_refused(store: Path, tmp_path: Path):
    out = tmp_path / "out"
    bundle.export(("tiny:1", "big:1"), store, out, nothing)
    for name in ("tiny.gguf", "big-00002-of-00002.gguf"):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole[:-1] + b"!")
        with pytest.raises(ChecksumError):
            bundle.bring_in(out, tmp_path / "there", nothing)
        (out / name).write_bytes(whole)
    (store / "tiny.gguf").write_bytes(GGUF[:-1] + b"!")
    with pytest.raises(ChecksumError, match="pendra models verify"):
        bundle.export(("tiny:1",), store, tmp_path / "no", nothing)


def test_a_tar_cannot_write_elsewhere(tmp_path: Path):
    evil = tmp_path / "evil.tar"
    (tmp_path / "x").write_bytes(GGUF)
    with tarfile.open(evil, "w") as tar:
        tar.add(tmp_path / "x", arcname="../escaped.gguf")
    with pytest.raises(SourceError, match="holds no model"):
        bundle.bring_in(evil, tmp_path / "there", nothing)
    assert not (tmp_path / "escaped.gguf").exists()


def test_what_is_no_export_says_so(tmp_path: Path):
    (tmp_path / "x.tar").write_bytes(b"no tar")
    with pytest.raises(SourceError, match="neither a folder nor a tar"):
        bundle.bring_in(tmp_path / "x.tar", tmp_path / "there", nothing)
