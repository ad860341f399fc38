"""The version is read once."""

from __future__ import annotations

from importlib import metadata

import pytest

from tasks.version import DISTRIBUTION, version


@pytest.fixture(autouse=True)
def anew():
    version.cache_clear()
    yield
    version.cache_clear()


def test_it_is_that_of_the_installation_and_read_once(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(metadata, "version", lambda name: asked.append(name) or "1.2.3")
    assert [version(), version()] == ["1.2.3", "1.2.3"]
    assert asked == [DISTRIBUTION]


def test_a_source_tree_says_so(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert version() == "0+source"
