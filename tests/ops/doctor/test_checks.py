"""Which checks a host gets."""

from __future__ import annotations

from bridge.identity import generate_seed
from ops.doctor.checks import checks_of, without_settings
from ops.doctor.verdict import Level
from tasks.errors import ConfigError
from tasks.settings import load_settings


def test_a_host_with_a_key_must_reach_the_api(tmp_path):
    checks = checks_of(load_settings(home=tmp_path, gpu_worker_private_key=generate_seed()))
    assert list(checks) == ["key", "packages", "dns", "api", "redis", "fleet", "gpu", "models", "backends", "traces"]


def test_a_host_of_workers_need_not(tmp_path):
    checks = checks_of(load_settings(home=tmp_path))
    assert "dns" not in checks
    (verdict,) = checks["api"]()
    assert verdict.level is Level.SKIPPED


def test_each_problem_of_the_settings_is_a_failure_of_its_own():
    problems, checks = without_settings(ConfigError("A is wrong\nB is wrong"))
    assert [(verdict.level, verdict.found) for verdict in problems] == [
        (Level.FAILED, "A is wrong"),
        (Level.FAILED, "B is wrong"),
    ]
    assert set(checks) == {"packages", "gpu"}
