"""The catalogue: entries that make sense, no made-up hashes, sites' own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.contract import InstallRequest
from tasks.errors import NotFoundError
from tests.worker.store.models import SHA256, FileServer, serving
from worker.store.curated import Catalogue, load, load_from, spec_for, spec_of
from worker.store.errors import DownloadError, SourceError, UnsupportedSource
from worker.store.planner import target

ENTRY = {
    "id": "m:1b", "name": "M", "backend": "pendra", "capability": "embedding", "parameter_size": "1B",
    "context_length": 64, "licence": "MIT",
    "variants": [{"quantisation": "F16", "gguf_url": "hf://a/b/c.gguf"}, {"quantisation": "Q4_K_M", "size": 5,
                 "gguf_url": "hf://a/b/d.gguf", "gguf_sha256": "a" * 64}],
}  # fmt: skip
SITE = Catalogue.model_validate({"data": [ENTRY]})
VOUCHED = {"smollm2:135m"}  # hashes we computed ourselves


def test_every_entry_can_be_installed_or_says_where_it_runs():
    ids = [model.id for model in load().data]
    assert len(set(ids)) == len(ids)
    for model in load().data:
        assert model.capability in {"chat", "embedding", "rerank"} or model.backend not in {"pendra", "both"}
        for variant in model.variants:
            if variant.gguf_url is None:
                assert model.backend in variant.backends
                with pytest.raises(UnsupportedSource, match=f"runs on {model.backend} only"):
                    spec_of(model, variant.quantisation)
                continue
            goal = target(spec_of(model, variant.quantisation), Path("/store"))
            assert model.context_length
            assert variant.quantisation.lower() in goal.path.name.lower()
            assert goal.spec.purpose == model.capability


def test_hashes_and_sizes_only_where_they_are_known_for_a_fact():
    """Others come from the hub's LFS record of the revision that is installed."""
    for model in load().data:
        for variant in model.variants:
            if model.id not in VOUCHED:
                assert variant.gguf_sha256 is None
                assert variant.size is None
                assert variant.gguf_url is None or variant.gguf_url.startswith("hf://")


def test_all_sizes_and_purposes_are_there():
    assert {model.capability for model in load().data} == {"chat", "embedding", "rerank", "image", "transcription"}
    families = ("llama", "qwen", "mistral", "gpt-oss", "phi", "smollm", "nomic", "whisper")
    assert all(any(model.id.startswith(family) for model in load().data) for family in families)
    nomic = load().find("nomic-embed-text:latest")
    assert nomic is not None
    assert [variant.quantisation for variant in nomic.variants] == ["F16", "Q4_K_M"]
    always = load().find("smollm2:135m")
    assert always is not None
    assert (always.variant().gguf_url or "").startswith("pypi://")


def test_a_variant_is_chosen_by_its_quantisation():
    assert spec_for(InstallRequest(model="m:1b"), SITE).source.endswith("c.gguf")
    chosen = spec_for(InstallRequest(model="m:1b", variant="q4_k_m"), SITE)
    assert (chosen.source, chosen.sha256, chosen.size) == ("hf://a/b/d.gguf", "a" * 64, 5)
    with pytest.raises(NotFoundError, match="it has F16, Q4_K_M"):
        spec_for(InstallRequest(model="m:1b", variant="Q2"), SITE)


def test_an_own_source_takes_the_rest_from_the_entry():
    spec = spec_for(InstallRequest(model="m:1b", source="https://h/x.gguf", sha256=SHA256.upper()), SITE)
    assert (spec.purpose, spec.licence, spec.sha256) == ("embedding", "MIT", SHA256)
    assert spec_for(InstallRequest(model="new", source="https://h/x.gguf"), SITE).purpose == "chat"


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (InstallRequest(model="nope"), NotFoundError, "it has m:1b"),
        (InstallRequest(model="../x", source="https://h/x.gguf"), SourceError, "model id"),
        (InstallRequest(model="x", source="https://u:hunter2@h/x.gguf"), SourceError, "password"),
        (InstallRequest(model="x", source="https://h/x.gguf", mirrors=("https://u@h/x.gguf",)), SourceError, "pass"),
    ],
)
def test_what_is_refused(request_: InstallRequest, error: type[Exception], words: str):
    with pytest.raises(error, match=words) as caught:
        spec_for(request_, SITE)
    assert "hunter2" not in str(caught.value)


def test_a_sites_own_catalogue(tmp_path: Path):
    file = tmp_path / "catalogue.json"
    file.write_text(json.dumps({"data": [ENTRY | {"later": "field"}]}))
    assert load_from(file.as_uri()) == SITE
    with serving(FileServer(content=file.read_bytes())) as server:
        assert load_from(server.base + "/catalogue.json") == SITE
    with pytest.raises(DownloadError, match="cannot be read: ConnectError"):
        load_from(server.base + "/other.json")
    file.with_name("bad.json").write_text('{"data": [{"id": 5}]}')
    with pytest.raises(DownloadError, match=r"is not one: see data\.0"):
        load_from(file.with_name("bad.json").as_uri())
    assert load_from("") is load()
