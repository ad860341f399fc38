"""Fleet keys and versions against those that run."""

from __future__ import annotations

import contextlib

import pytest

from ops.doctor.fleet import Member, judge_keys, judge_versions, look
from ops.doctor.verdict import Level
from tasks import keys
from tasks.contract import Overview, WorkerInfo
from tasks.redis_client import connect
from tasks.sealing import FleetKey
from tasks.settings import load_settings


def member(*ids: str, version: str = "1.4.0") -> Member:
    return Member("w1", version, ids)


@pytest.mark.parametrize(
    ("ours", "theirs", "level"),
    [
        (("a",), ("a",), Level.OK),
        (("a",), (), Level.OK),  # an older worker does not say
        (("b", "a"), ("a", "b"), Level.OK),  # in the middle of a rotation
        (("a",), ("b", "a"), Level.FAILED),  # it seals with a key that we do not have
        (("b", "a"), ("a",), Level.FAILED),  # we would
        (("a",), ("b",), Level.FAILED),
    ],
)
def test_each_must_open_what_the_other_seals(ours, theirs, level):
    assert judge_keys(ours, (member(*theirs),))[0].level is level


@pytest.mark.parametrize(
    ("ours", "theirs", "level"),
    [
        ("1.4.0", "1.4.0", Level.OK),
        ("1.4.0", "1.5.2", Level.WARNING),
        ("1.4.0", "1.6.0", Level.FAILED),
        ("1.4.0", "2.0.0", Level.FAILED),
        ("0+source", "1.4.0", Level.WARNING),
    ],
)
def test_one_minor_version_apart_works(ours, theirs, level):
    assert judge_versions(ours, (member(version=theirs),)).level is level


def test_no_fleet_key_is_a_failure(tmp_path):
    (verdict,) = look(load_settings(home=tmp_path), "unix:///nowhere", "1.0")
    assert verdict.level is Level.FAILED


def test_without_redis_there_is_nothing_to_compare_with(tmp_path):
    settings = load_settings(home=tmp_path, fleet_key=FleetKey.generate().to_base64())
    (verdict,) = look(settings, f"unix://{tmp_path}/none.sock", "1.0")
    assert verdict.level is Level.SKIPPED


@pytest.mark.integration
def test_a_worker_and_a_bridge_with_other_keys_are_named(tmp_path, redis_url):
    info = WorkerInfo(
        worker_id="w1",
        epoch="e",
        name="n",
        node="h",
        pid=1,
        version="1.0",
        device="d",
        slots_total=1,
        fleet_keys=("ff",),
    )
    bridge = Overview(bridge_id="b1", total=0, version="1.0", fleet_keys=("ee",))
    with contextlib.closing(connect(redis_url)) as client:
        client.hset(keys.WORKERS, "w1", info.model_dump_json())
        client.set(keys.worker_lease("w1"), "e")
        client.set(keys.overview("b1"), bridge.model_dump_json())
    settings = load_settings(home=tmp_path, fleet_key=FleetKey.generate().to_base64())
    key, versions = look(settings, redis_url, "1.0")
    assert (key.level, versions.level) == (Level.FAILED, Level.OK)
    assert "w1" in key.found
    assert "bridge b1" in key.found
