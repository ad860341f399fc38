"""The store's models: sidecars name them, broken ones are listed and never served."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import gguf
import pytest

from tests.fakes.tiny_llama import write_tiny_llama
from worker.store import catalogue
from worker.store.catalogue import Catalogue


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path


def put(tiny: Path, target: Path, **label: object) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tiny, target)
    if label:
        target.with_name(target.name + ".meta.json").write_text(json.dumps(label))
    return target


def test_a_sidecar_names_the_model(tiny, store):
    path = put(tiny, store / "a.gguf", id="tiny:1m", purpose="embedding", sha256="ab", source="file:///a")
    entry = Catalogue(store).find("tiny:1m")
    assert entry is not None
    assert (entry.path, entry.purpose, entry.problem) == (path, "embedding", None)
    advert = entry.advert(loaded=True)
    assert advert.model_dump(exclude_none=True) == {
        "id": "tiny:1m",
        "capability": "embedding",
        "backend": "pendra",
        "context_length": 2048,
        "parameter_size": entry.info.parameter_size,
        "quantisation": "F32",
        "family": "llama",
        "size_bytes": path.stat().st_size,
        "sha256": "ab",
        "loaded": True,
        "fits": True,
    }


def test_a_file_dropped_in_by_hand_goes_by_its_name(tiny, store):
    put(tiny, store / "Tiny-Q4.gguf")
    put(tiny, store / "vendor" / "Other.gguf")
    put(tiny, store / "vendor" / "deeper" / "Unseen.gguf")
    put(tiny, store / ".hidden.gguf")
    assert [(entry.id, entry.purpose) for entry in Catalogue(store).entries()] == [
        ("tiny-q4", "chat"),
        ("other", "chat"),
    ]


def test_only_chosen_models_are_listed(tiny, store):
    put(tiny, store / "a.gguf", id="a")
    put(tiny, store / "b.gguf", id="b")
    chosen = Catalogue(store, only=("b", "not-here"))
    assert [entry.id for entry in chosen.entries()] == ["b"]
    assert chosen.find("a") is None


def test_broken_files_are_listed_with_the_reason(tiny, store):
    (store / "junk.gguf").write_bytes(b"hello")
    (store / "cut.gguf").write_bytes(tiny.read_bytes()[:-5000])
    put(tiny, store / "label.gguf").with_name("label.gguf.meta.json").write_text("{not json")
    problems = {entry.id: entry.problem for entry in Catalogue(store).entries()}
    assert problems["junk"].code == "model_corrupt"
    assert "cut off" in problems["cut"].message
    assert "label.gguf.meta.json" in problems["label"].message


def test_what_is_no_model_of_its_own_is_not_served(store):
    writer = gguf.GGUFWriter(store / "p.gguf", "clip")
    writer.add_type("mmproj")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    (entry,) = Catalogue(store).entries()
    assert entry.problem.code == "unsupported_architecture"
    assert "projector" in entry.problem.message


def test_two_files_with_one_id(tiny, store):
    put(tiny, store / "a.gguf", id="same")
    put(tiny, store / "b.gguf", id="same")
    first, second = Catalogue(store).entries()
    assert first.problem is None
    assert "belongs to a.gguf" in second.problem.message
    assert Catalogue(store).find("same") == first


def test_a_split_model_is_one_entry_and_needs_all_its_parts(tiny, store):
    put(tiny, store / "Big-00001-of-00003.gguf")
    put(tiny, store / "Big-00003-of-00003.gguf")
    (entry,) = Catalogue(store).entries()
    assert entry.id == "big"
    assert entry.problem.code == "missing_split"
    assert "Big-00002-of-00003.gguf" in entry.problem.message
    put(tiny, store / "Big-00002-of-00003.gguf")
    (entry,) = Catalogue(store).entries()
    assert entry.problem is None
    assert entry.size_bytes == 3 * tiny.stat().st_size


def test_files_come_and_go(tiny, store):
    found = Catalogue(store)
    assert found.entries() == ()
    path = put(tiny, store / "a.gguf")
    assert found.find("a") is not None
    path.unlink()
    assert found.find("a") is None
    assert Catalogue(store / "nowhere").entries() == ()


def test_headers_are_read_once_until_the_file_changes(tiny, store, monkeypatch):
    reads: list[str] = []

    def counted(path: Path) -> object:
        reads.append(path.name)
        return read(path)

    read = catalogue.read_gguf
    monkeypatch.setattr(catalogue, "read_gguf", counted)
    path = put(tiny, store / "a.gguf")
    found = Catalogue(store)
    found.entries()
    found.entries()
    assert reads == ["a.gguf"]
    os.utime(path, ns=(1, 1))
    found.entries()
    assert reads == ["a.gguf", "a.gguf"]


def test_a_dangling_link_is_nothing(store):
    (store / "x.gguf").symlink_to(store / "gone")
    assert Catalogue(store).entries() == ()
