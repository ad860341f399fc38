"""A Redis that writes to disk is named at the start; one that does not is not mentioned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tasks import redis_persistence
from tasks.redis_client import connect


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client
        client.config_set("save", "", "appendonly", "no")


def test_one_that_keeps_all_in_memory_is_fine(redis_url, client, caplog):
    assert redis_persistence.warn(redis_url) == ()
    assert caplog.text == ""


def test_save_points_are_named(redis_url, client, caplog):
    client.config_set("save", "3600 1")
    assert redis_persistence.warn(redis_url) == ('save "3600 1"',)
    assert "redis.persists" in caplog.text


def test_an_append_only_file_is_named():
    assert redis_persistence.writing({"save": "", "appendonly": "yes"}) == ("appendonly yes",)
    assert redis_persistence.writing({"save": "60 1", "appendonly": "yes"}) == ('save "60 1"', "appendonly yes")


def test_one_that_is_away_is_passed_over(tmp_path):
    assert redis_persistence.warn(f"unix://{tmp_path}/none.sock") == ()
