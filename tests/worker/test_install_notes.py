"""What an agent was asked is noted until it has ended, so that its next life knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contract import InstallRequest
from tasks.errors import PendraError
from worker.install_notes import left, noted

REQUEST = InstallRequest(model="tiny:1", source="https://h/tiny.gguf", mirrors=("https://m/tiny.gguf",))


def test_a_note_is_there_while_it_runs(tmp_path: Path) -> None:
    with noted(tmp_path, "a/b", REQUEST):
        (note,) = left(tmp_path)
        assert (note.task_id, note.request) == ("a/b", REQUEST)
    assert left(tmp_path) == []


@pytest.mark.parametrize(("code", "kept"), [("draining", 1), ("cancelled", 0), ("disk_full", 0)])
def test_only_what_goes_on_later_stays_noted(tmp_path: Path, code: str, kept: int) -> None:
    with pytest.raises(PendraError), noted(tmp_path, "t", REQUEST):
        raise PendraError("ended", code=code)
    assert len(left(tmp_path)) == kept


def test_a_store_that_cannot_be_written_is_no_obstacle_here(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with noted(tmp_path / "file", "t", REQUEST):
        pass
    assert left(tmp_path / "file") == []


def test_an_unreadable_note_is_removed(tmp_path: Path) -> None:
    with pytest.raises(PendraError), noted(tmp_path, "t", REQUEST):
        raise PendraError("ended", code="draining")
    (path,) = tmp_path.glob(".installs/*.task")
    path.write_text("{")
    assert left(tmp_path) == []
    assert not path.exists()
