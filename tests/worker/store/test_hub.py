"""`hf://` against a local server that speaks the hub's resolve protocol."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.store.models import GGUF, HubServer, hub_of, serving
from worker.store import hub, journal
from worker.store.errors import ChecksumError, DownloadError
from worker.store.installer import Installed, install
from worker.store.planner import InstallSpec
from worker.store.run import Transfer

QUICK = Transfer(tries=2, backoff_s=(0.001, 0.001))


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(server: HubServer) -> HubServer:
            stack.enter_context(serving(server))
            monkeypatch.setenv("HF_ENDPOINT", server.base)
            return server

        yield start


def get(store: Path, url: str = "hf://org/repo/tiny.gguf", **more: object) -> Installed:
    spec = InstallSpec(id="tiny:1", source=url, **more)  # type: ignore[arg-type]
    return install(spec, store, lambda *_: None, transfer=QUICK)


def sha_of(name: str) -> str:
    return hashlib.sha256(GGUF + name.encode()).hexdigest()


def test_hash_and_commit_come_from_the_hub_and_are_recorded(use, tmp_path: Path):
    use(hub_of("tiny.gguf"))
    done = get(tmp_path)
    assert done.sidecar.sha256 == sha_of("tiny.gguf")
    assert done.sidecar.revision == "c" * 40
    assert done.sidecar.source == "hf://org/repo/tiny.gguf"


def test_a_pinned_revision(use, tmp_path: Path):
    server = use(hub_of("tiny.gguf"))
    get(tmp_path, "hf://org/repo/tiny.gguf@v1")
    assert server.authorized[0][0] == "/org/repo/resolve/v1/tiny.gguf"
    with pytest.raises(DownloadError, match="org/repo has no revision v2"):
        get(tmp_path / "other", "hf://org/repo/tiny.gguf@v2")


def test_a_wrong_byte_on_the_way_is_caught_by_the_hubs_hash(use, tmp_path: Path):
    server = use(hub_of("tiny.gguf"))
    server.files["/cdn/tiny.gguf"] = b"GGUF" + server.files["/cdn/tiny.gguf"][4:-1] + b"!"
    with pytest.raises(ChecksumError, match=sha_of("tiny.gguf")):
        get(tmp_path)
    assert not (tmp_path / "tiny.gguf").exists()


def test_a_hash_that_the_hub_does_not_have_is_said_before_anything_is_fetched(use, tmp_path: Path):
    server = use(hub_of("tiny.gguf"))
    with pytest.raises(ChecksumError, match=f"{sha_of('tiny.gguf')}, expected {'f' * 64}"):
        get(tmp_path, sha256="f" * 64)
    assert not [path for path in server.paths if path.startswith("/cdn")]


def test_a_split_model_comes_from_one_commit(use, tmp_path: Path):
    names = ("d/big-00001-of-00002.gguf", "d/big-00002-of-00002.gguf")
    server = use(hub_of(*names))
    done = get(tmp_path, f"hf://org/repo/{names[0]}")
    assert [part.sha256 for part in done.sidecar.parts] == [sha_of(name) for name in names]
    looked = [path for path, _ in server.authorized if "resolve" in path]
    assert looked[1] == f"/org/repo/resolve/{'c' * 40}/{names[1]}"


def test_a_file_without_lfs_is_recorded_with_the_hash_it_came_with(use, tmp_path: Path):
    use(hub_of("tiny.gguf", lfs=False))
    assert get(tmp_path).sidecar.sha256 == sha_of("tiny.gguf")


def test_the_token_goes_to_the_hub_and_nowhere_else(
    use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, "pendra")
    cdn = hub_of("tiny.gguf")
    with serving(cdn):
        server = use(hub_of("tiny.gguf", token="hf_hunter2", cdn=cdn.base))
        monkeypatch.setenv("HF_TOKEN", "hf_hunter2")
        get(tmp_path)
    assert all(sent for path, sent in server.authorized if "resolve" in path)
    assert cdn.authorized
    assert not any(sent for _, sent in cdn.authorized)
    assert not any("hunter2" in path.read_text(errors="replace") for path in tmp_path.rglob("*.json"))
    assert "hunter2" not in caplog.text
    assert "s3cret" not in caplog.text


def test_without_the_token_it_says_what_to_do(use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    use(hub_of("tiny.gguf", token="right"))
    monkeypatch.setenv("HF_TOKEN", "hf_hunter2")
    with pytest.raises(DownloadError, match="no repository org/repo, or HF_TOKEN") as caught:
        get(tmp_path)
    assert "hunter2" not in caught.value.message


def test_a_gated_repository_says_so(use, tmp_path: Path):
    use(hub_of("tiny.gguf", token="right", gated=True))
    with pytest.raises(DownloadError, match=r"gated: accept its terms at .* and set HF_TOKEN"):
        get(tmp_path)


def test_a_file_that_is_not_there(use, tmp_path: Path):
    use(hub_of("tiny.gguf"))
    with pytest.raises(DownloadError, match=r"org/repo has no file other\.gguf"):
        get(tmp_path, "hf://org/repo/other.gguf")


def test_a_hub_that_is_away_is_asked_again_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(DownloadError, match="cannot be reached") as caught:
        get(tmp_path)
    assert caught.value.retryable
    assert journal.unfinished(tmp_path) == []


def test_a_server_that_is_no_hub(use, tmp_path: Path):
    server = use(hub_of("tiny.gguf"))
    server.commit = ""
    with pytest.raises(DownloadError, match="does not answer as a model hub"):
        get(tmp_path)


def test_offline_the_cache_of_the_user_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids"):
        get(tmp_path / "store")
    repo = tmp_path / "cache" / "models--org--repo"
    data = GGUF + b"tiny.gguf"
    blob = repo / "blobs" / sha_of("tiny.gguf")
    link = repo / "snapshots" / ("d" * 40) / "tiny.gguf"
    for path in (blob, link, repo / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    link.symlink_to(blob)
    (repo / "refs" / "main").write_text("d" * 40)
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "cache"), raising=False)
    done = get(tmp_path / "store")
    assert (done.sidecar.revision, done.sidecar.sha256) == ("d" * 40, sha_of("tiny.gguf"))
    assert hub.offline()
