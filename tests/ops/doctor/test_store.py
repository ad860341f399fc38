"""The models folder and its disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ops.doctor.store import Facts, judge, look
from ops.doctor.verdict import Level
from tasks.settings import load_settings

GB = 1000**3
GOOD = Facts(Path("/m"), exists=True, readable=True, writable=True, free=500 * GB, total=900 * GB, models=3)


def said(facts: Facts) -> list[tuple[str, Level]]:
    return [(verdict.check, verdict.level) for verdict in judge(facts)]


def test_as_it_should_be():
    assert said(GOOD) == [("models", Level.OK), ("disk", Level.OK)]


def test_a_folder_that_cannot_be_read_or_written():
    assert said(replace(GOOD, readable=False))[0] == ("models", Level.FAILED)
    assert said(replace(GOOD, writable=False))[0] == ("models", Level.WARNING)


def test_no_models_is_a_warning_with_the_command():
    verdict = judge(replace(GOOD, models=0))[0]
    assert (verdict.level, "pendra models install" in verdict.fix) == (Level.WARNING, True)


def test_room():
    assert said(replace(GOOD, free=10 * GB))[-1] == ("disk", Level.WARNING)
    assert said(replace(GOOD, free=1 * GB))[-1] == ("disk", Level.FAILED)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "broken.gguf").write_bytes(b"this is no gguf at all")
    verdicts = look(load_settings(home=tmp_path))
    assert [v for v in verdicts if v.level is Level.FAILED and "broken.gguf" in v.found]


def test_a_folder_that_is_not_there_yet(tmp_path):
    verdicts = look(load_settings(home=tmp_path / "new"))
    assert verdicts[0].level is Level.WARNING
