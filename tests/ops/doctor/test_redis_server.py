"""Redis' verdicts, and a real one that is as it should be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from ops.doctor.redis_server import Facts, judge, look
from ops.doctor.verdict import Level

GOOD = Facts(
    url="redis://r:6379/0",
    server="Redis 7.4.1",
    version=(7, 4),
    latency_ms=0.3,
    used=10,
    config={"save": "", "appendonly": "no", "maxmemory": "0", "maxmemory-policy": "noeviction"},
)


def worst(facts: Facts) -> tuple[Level, str]:
    """The worst level, and all that is said about it."""
    found = judge(facts)
    for level in (Level.FAILED, Level.WARNING, Level.OK):
        if said := [f"{verdict.found} {verdict.fix}" for verdict in found if verdict.level is level]:
            return level, " ".join(said)
    raise AssertionError("nothing was said")


def with_config(**more: str) -> Facts:
    return replace(GOOD, config=GOOD.config | {name.replace("_", "-"): value for name, value in more.items()})


def test_as_it_should_be():
    assert worst(GOOD)[0] is Level.OK


@pytest.mark.parametrize(
    ("facts", "level", "word"),
    [
        (with_config(save="3600 1"), Level.WARNING, "writes to disk"),
        (with_config(appendonly="yes"), Level.WARNING, "writes to disk"),
        (with_config(maxmemory_policy="allkeys-lru"), Level.FAILED, "noeviction"),
        (replace(with_config(maxmemory="100"), used=95), Level.FAILED, "maxmemory"),
        (replace(GOOD, latency_ms=8.0), Level.WARNING, "8.0 ms"),
        (replace(GOOD, latency_ms=80.0), Level.FAILED, "80.0 ms"),
        (replace(GOOD, server="Redis 5.0.7", version=(5, 0)), Level.FAILED, "too old"),
        (replace(GOOD, role="slave"), Level.FAILED, "Sentinel"),
        (replace(GOOD, skew_s=3600.0), Level.FAILED, "clock"),
        (replace(GOOD, config={}), Level.WARNING, "does not tell"),
        (Facts("u", failure=redis.AuthenticationError()), Level.FAILED, "password"),
        (Facts("u", failure=redis.exceptions.NoPermissionError()), Level.FAILED, "refuses"),
        (Facts("u", failure=redis.ConnectionError("redis://:hush@r")), Level.FAILED, "does not answer"),
    ],
)
def test_what_is_wrong_is_said_with_its_fix(facts, level, word):
    found, said = worst(facts)
    assert found is level
    assert word in said
    assert "hush" not in said


def test_an_old_number_of_valkey_is_not_redis():
    assert worst(replace(GOOD, server="Valkey 1.0", version=(1, 0)))[0] is Level.OK


@pytest.mark.integration
def test_a_real_server(redis_url):
    verdicts = look(redis_url)
    assert verdicts[0].level is Level.OK, verdicts
    assert not [verdict for verdict in verdicts if verdict.level is Level.FAILED]


def test_a_server_that_is_away(tmp_path):
    (verdict,) = look(f"unix://{tmp_path}/none.sock")
    assert verdict.level is Level.FAILED
