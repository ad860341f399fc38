"""`pendra doctor`: words, JSON and exit status."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ops.commands import doctor
from ops.doctor.verdict import Verdict, failed, ok, warning


@pytest.fixture
def saying(monkeypatch):
    def say(*verdicts: Verdict) -> None:
        monkeypatch.setattr(doctor, "look", lambda _home: list(verdicts))

    return say


def run(*args: str):
    return CliRunner().invoke(doctor.command, args)


def test_a_failure_comes_with_its_fix_and_exit_status_1(saying):
    saying(ok("dns", "fine"), failed("redis", "away", "start it"))
    done = run()
    assert done.exit_code == 1
    assert "✗ redis     away\n            → start it" in done.output
    assert "1 failed, 0 to look at, 2 in all" in done.output


def test_warnings_leave_the_exit_status_alone(saying):
    saying(warning("disk", "small", "clean up"))
    assert run().exit_code == 0


def test_json_is_a_list_of_verdicts(saying):
    saying(failed("redis", "away", "start it"))
    done = run("--json")
    assert json.loads(done.output) == [{"check": "redis", "level": "failed", "found": "away", "fix": "start it"}]
    assert done.exit_code == 1


def test_settings_that_cannot_be_used_are_a_verdict_too(monkeypatch, tmp_path):
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    monkeypatch.setenv("PENDRA_REDIS_URL", "redis+sentinel://:hush@a:26379/m")
    done = run("--json")
    (first, *_) = json.loads(done.output)
    assert (first["check"], first["level"], done.exit_code) == ("settings", "failed", 1)
    assert "Sentinel is not supported" in first["found"]
    assert "hush" not in done.output
