"""Label values stop growing, and those that were there stay."""

from __future__ import annotations

from bridge.metrics.bounded import Bounded


def test_what_comes_too_late_is_other():
    bounded = Bounded(2)
    assert [bounded(name)[0] for name in ("a", "b", "c", "a", "d")] == ["a", "b", "other", "a", "other"]
    assert ("a",) in bounded
    assert ("c",) not in bounded


def test_pairs_are_one_key():
    bounded = Bounded(1)
    assert bounded("m", "w1") == ("m", "w1")
    assert bounded("m", "w2") == ("other", "other")
