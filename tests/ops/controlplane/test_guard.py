"""Guessing keys gets slower and slower; who has a right one is not in the way of a neighbour who has none."""

from __future__ import annotations

import pytest

from ops.controlplane import guard
from ops.controlplane.guard import FREE, LONGEST_LOCK_S, Guard, network_of

HERE = "192.0.2.7"


def failing(times: int, address: str = HERE) -> Guard:
    made = Guard()
    for _ in range(times):
        made.failed(address, 100.0)
    return made


def test_some_failures_are_free() -> None:
    assert failing(FREE - 1).locked_for(HERE, "h", 100.0) == 0


def test_each_further_failure_locks_twice_as_long() -> None:
    locks = [failing(FREE + n).locked_for(HERE, "h", 100.0) for n in range(4)]
    assert locks == [1, 2, 4, 8]
    assert failing(FREE + 1000).locked_for(HERE, "h", 100.0) == LONGEST_LOCK_S


def test_a_lock_ends() -> None:
    made = failing(FREE)
    assert made.locked_for(HERE, "h", 100.5) == 0.5
    assert made.locked_for(HERE, "h", 101.0) == 0


def test_a_key_that_was_right_before_is_still_looked_at() -> None:
    made = failing(FREE)
    made.succeeded(HERE, "right")
    assert made.locked_for(HERE, "right", 100.0) == 0
    assert made.locked_for(HERE, "guess", 100.0) > 0
    assert made.locked_for("192.0.2.8", "guess", 100.0) == 0


def test_failures_are_forgotten() -> None:
    made = failing(FREE - 1)
    made.failed(HERE, 100.0 + guard.FORGET_S + 1)
    assert made.locked_for(HERE, "h", 100.0 + guard.FORGET_S + 1) == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_ADDRESSES", 5)
    made = Guard()
    for n in range(50):
        made.failed(f"192.0.2.{n}", 1.0)
        made.succeeded(HERE, f"hash-{n}")
    assert len(made) == 5
    assert len(made._record(HERE).known) <= guard.MAX_KNOWN


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", HERE),
        ("fe80::1%eth0", "fe80::"),
        (HERE, HERE),
        ("testclient", "testclient"),
    ],
)
def test_what_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network
