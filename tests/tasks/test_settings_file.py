"""`config.yaml`: what an edit keeps, and that a broken file is told with its line."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import settings_file
from tasks.errors import ConfigError
from tasks.settings_file import change, ensure, read, spliced

COMMENTED = """\
# my worker
worker_name: box  # the one in the corner
# which models
models:
- a
- b

# from another version
some_future_key: {x: 1}
ollama_endpoint: off
"""


def test_a_file_that_is_not_there_is_empty(tmp_path: Path):
    assert read(tmp_path / "config.yaml") == {}


def test_an_edit_keeps_comments_order_and_unknown_keys():
    edited = spliced(COMMENTED, "worker_name", "other")
    assert edited == COMMENTED.replace("box", "other")


def test_a_block_list_is_replaced_without_the_comments_after_it():
    edited = spliced(COMMENTED, "models", ["c"])
    assert edited == COMMENTED.replace("- a\n- b\n", "- c\n")


def test_removing_a_key_leaves_the_rest():
    assert spliced(COMMENTED, "models", None) == COMMENTED.replace("models:\n- a\n- b\n", "")
    assert spliced(COMMENTED, "nothing", None) == COMMENTED


def test_a_new_key_goes_to_the_end():
    assert spliced("a: 1", "b", "x: y") == "a: 1\nb: 'x: y'\n"
    assert spliced("", "b", 2) == "b: 2\n"


def test_a_text_in_a_shape_that_cannot_be_spliced_is_written_anew():
    assert yaml.safe_load(spliced("{a: 1, b: 2}", "a", 3)) == {"a": 3, "b": 2}


VALUES = st.one_of(st.text(), st.integers(), st.booleans(), st.lists(st.text(), min_size=1))


@settings(deadline=None)
@given(
    before=st.dictionaries(st.sampled_from("abcd"), VALUES),
    key=st.sampled_from("abcde"),
    value=VALUES | st.none(),
)
def test_whatever_is_spliced_reads_back(before: dict[str, object], key: str, value: object):
    text = yaml.safe_dump(before, sort_keys=False) if before else ""
    expected = {name: held for name, held in before.items() if name != key}
    if value is not None:
        expected[key] = value
    assert (yaml.safe_load(spliced(text, key, value)) or {}) == expected


def test_changes_are_written_privately_and_whole(tmp_path: Path):
    path = tmp_path / "new" / "config.yaml"
    change(path, {"worker_name": "x", "max_concurrent": 3})
    assert read(path) == {"worker_name": "x", "max_concurrent": 3}
    assert path.stat().st_mode & 0o777 == 0o600
    assert {p.name for p in path.parent.iterdir()} == {"config.yaml", ".config.yaml.lock"}


def test_an_open_file_is_closed_by_the_next_change(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\n")
    path.chmod(0o644)
    assert settings_file.is_open_to_others(path)
    change(path, {"a": 2})
    assert not settings_file.is_open_to_others(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "config.yaml"
    change(path, {"a": 1})

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(ConfigError, match="No space left"):
        change(path, {"a": 2})
    assert read(path) == {"a": 1}
    assert {p.name for p in tmp_path.iterdir()} == {"config.yaml", ".config.yaml.lock"}


def test_ensure_makes_a_value_once_for_all_threads(tmp_path: Path):
    path = tmp_path / "config.yaml"
    made: list[int] = []
    found: list[object] = []

    def make() -> str:
        made.append(1)
        return "id"

    threads = [threading.Thread(target=lambda: found.append(ensure(path, "worker_id", make))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == ["id"] * 5
    assert len(made) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: [1, 2\n", "line 3"),
        ("a: 1\n\tb: 2\n", "line 2"),
        ("gpu_worker_private_key: topsecret: x\n", "line 1"),
        ("- a\n- b\n", "holds a list"),
        ("just text\n", "holds a str"),
        ("a: \x01\n", "characters"),
    ],
)
def test_a_broken_file_is_told_with_its_line_and_without_its_content(text: str, says: str, tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert says in caught.value.message
    assert "topsecret" not in caught.value.message


def test_a_file_that_is_not_text(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read(path)
