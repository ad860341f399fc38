"""The key's verdicts: who may read the files, and whether there is a key at all."""

from __future__ import annotations

from pathlib import Path

from ops.doctor.key import Facts, judge, look
from ops.doctor.verdict import Level
from tasks.settings import load_settings

CONFIG = Path("/home/pendra/config.yaml")


def levels(facts: Facts, *, posix: bool = True) -> list[Level]:
    return [verdict.level for verdict in judge(facts, posix=posix)]


def test_a_key_in_a_file_of_mode_0600_is_fine():
    assert levels(Facts(has_key=True, local=False, files=((CONFIG, 0o100600),))) == [Level.OK]


def test_a_file_that_others_can_read_is_a_failure_with_its_command():
    verdict = judge(Facts(has_key=True, local=False, files=((CONFIG, 0o100640),)))[0]
    assert (verdict.level, verdict.fix) == (Level.FAILED, f"chmod 600 {CONFIG}")


def test_modes_mean_nothing_on_windows():
    assert levels(Facts(has_key=True, local=False, files=((CONFIG, 0o100666),)), posix=False) == [Level.OK]


def test_a_host_without_a_key_can_still_be_a_worker():
    assert levels(Facts(has_key=False, local=False, files=())) == [Level.WARNING]


def test_a_stack_with_its_own_api_needs_none_from_the_console():
    assert levels(Facts(has_key=False, local=True, files=())) == [Level.OK]


def test_the_files_of_a_home_are_looked_at(tmp_path):
    settings = load_settings(home=tmp_path)
    settings.fleet_key_path.write_text("k")
    settings.fleet_key_path.chmod(0o644)
    assert look(settings)[0].level is Level.FAILED
