"""A foreign package of our name before ours is a failure, behind ours a warning."""

from __future__ import annotations

from pathlib import Path

from ops.doctor import shadow
from ops.doctor.verdict import Level

OURS = Path("/app")


def verdicts(*places: Path):
    return shadow.judge({"tasks": places}, OURS)


def test_only_ours():
    assert [verdict.level for verdict in verdicts(OURS / "tasks")] == [Level.OK]


def test_a_foreign_one_first():
    (verdict,) = verdicts(Path("/site/tasks"), OURS / "tasks")
    assert (verdict.level, "/site/tasks" in verdict.fix) == (Level.FAILED, True)


def test_a_foreign_one_behind():
    assert verdicts(OURS / "tasks", Path("/site/tasks.py"))[0].level is Level.WARNING


def test_packages_and_modules_are_found_and_plain_folders_are_not(tmp_path):
    package, module, folder = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    (package / "tasks").mkdir(parents=True)
    (package / "tasks" / "__init__.py").touch()
    module.mkdir()
    (module / "tasks.py").touch()
    (folder / "tasks").mkdir(parents=True)
    found = shadow.found_on([str(package), str(module), str(folder), str(package)])
    assert found["tasks"] == (package / "tasks", module / "tasks.py")


def test_here_ours_are_ours():
    assert [verdict.level for verdict in shadow.look()] == [Level.OK]
