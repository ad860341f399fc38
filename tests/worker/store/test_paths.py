"""No id, source or name, however nasty, leads to a file outside the store."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contract import InstallRequest
from tasks.errors import PendraError
from worker.store import curated, sidecar
from worker.store.catalogue import Catalogue
from worker.store.planner import target

STORE = Path("/srv/models")
NASTY = st.sampled_from(
    [
        "..",
        ".",
        "~",
        "/",
        "\\",
        "%2e%2e",
        "%2f",
        "%00",
        "etc",
        "passwd",
        "C:",
        "con",
        "x.gguf",
        "..gguf",
        ".gguf",
        "a-00001-of-00002.gguf",
        "@",
        "?",
        "#",
        "*",
        "\xe9",
        "..%5c",
        "",
        "\x00",
        "\n",
        "\u202e",
        "\uff0f",
        "x" * 300,
    ]
)
NAMES = st.lists(st.one_of(NASTY, st.text(max_size=8)), min_size=1, max_size=6).map("/".join)
FORMS = st.sampled_from(["hf://o/r/", "https://h/", "http://h/", "file:///", "pypi://p/1/", "", "hf://", "file://h/"])


def inside(path: Path) -> bool:
    """Lexically and whole: nothing is resolved by luck."""
    return ".." not in path.parts and path.is_relative_to(STORE) and "\0" not in str(path)


@settings(max_examples=1500, deadline=None)
@given(model=NAMES, source=st.builds(str.__add__, FORMS, NAMES))
def test_an_install_writes_into_the_store_only(model: str, source: str) -> None:
    try:
        request = InstallRequest(model=model, source=source, sha256="ab" * 32)
        goal = target(curated.spec_for(request, curated.Catalogue(data=())), STORE)
    except (PendraError, ValueError):
        return
    paths = [goal.path, goal.work, goal.lock, sidecar.path_of(goal.path)]
    for name in goal.names:
        paths += [goal.store / name, goal.part(name), goal.quarantine(name)]
    assert all(inside(path) for path in paths)
    assert goal.path.parent == STORE
    assert goal.path.suffix == ".gguf"


@settings(max_examples=300, deadline=None)
@given(model=NAMES)
def test_an_id_finds_only_what_lies_in_the_store(model: str) -> None:
    """It is looked up among the files that are there, never made into a path."""
    with TemporaryDirectory() as home:
        store = Path(home) / "models"
        store.mkdir()
        (Path(home) / "passwd.gguf").write_bytes(b"GGUF")
        assert Catalogue(store).find(model) is None
