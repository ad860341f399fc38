"""Names on Redis: every one is in the table, and no two things share a name."""

from __future__ import annotations

import inspect

import pytest

from tasks import keys

NAMES = {
    keys.job: "pendra:job:<job>",
    keys.blobs: "pendra:blobs:<job>",
    keys.reply: "pendra:reply:<job>",
    keys.private_reply: "pendra:sealed:<reply>",
    keys.credits_of: "pendra:credits:<worker>",
    keys.worker_lease: "pendra:worker:<worker>",
    keys.events: "pendra:events:<bridge>",
    keys.replay: "pendra:replay:<bridge>",
    keys.control: "pendra:control:<worker>",
    keys.bridge_lease: "pendra:bridge:<bridge>",
    keys.bridge_epoch: "pendra:epoch:<bridge>",
    keys.open_jobs: "pendra:open:<bridge>",
    keys.open_installs: "pendra:installs:<bridge>",
    keys.install_stop: "pendra:stop:<task>",
    keys.overview: "pendra:jobs:<bridge>",
    keys.answers: "pendra:answers:<request>",
    keys.model_queue: "model.<model>",
    keys.worker_queue: "worker.<worker>",
    keys.install_queue: "install.<node>",
}


def test_every_name_is_covered_here():
    made = {f for _, f in inspect.getmembers(keys, inspect.isfunction) if f.__module__ == keys.__name__}
    assert made == set(NAMES)


@pytest.mark.parametrize(("make", "pattern"), NAMES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_the_table_tells_the_truth(make, pattern):
    assert f"`{pattern}`" in (keys.__doc__ or "")
    prefix = pattern.partition("<")[0]
    assert make("x:y.z") == f"{prefix}x:y.z"


def test_equal_ids_of_different_things_do_not_collide():
    same = [make("x") for make in NAMES] + [keys.WORKERS, keys.FLEET]
    assert len(set(same)) == len(same)


def test_a_lease_outlives_a_missed_heartbeat():
    assert keys.WORKER_LEASE_S > 2 * keys.HEARTBEAT_S
