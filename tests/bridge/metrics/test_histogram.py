"""Buckets are cumulative, end with +Inf, and a value on a bound is below it."""

from __future__ import annotations

import pytest

from bridge.metrics import histogram
from bridge.metrics.histogram import Histogram


def test_a_value_on_a_bound_belongs_to_it():
    made = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        made.observe(value)
    assert made.buckets() == [("1.0", 2.0), ("2.0", 4.0), ("+Inf", 5.0)]
    assert made.total == 14.0


def test_one_value_many_times():
    made = Histogram((1.0,))
    made.observe(0.25, 4)
    assert (made.buckets()[-1], made.total) == (("+Inf", 4.0), 1.0)


def test_a_clock_that_was_set_back_counts_as_no_time():
    made = Histogram((1.0,))
    made.observe(-3.0)
    assert (made.counts, made.total) == ([1, 0], 0.0)


def test_a_copy_stays_as_it_is():
    made = Histogram((1.0,))
    copy = made.copy()
    made.observe(0.5)
    assert copy.counts == [0, 0]


@pytest.mark.parametrize("name", ["WAIT_S", "FIRST_TOKEN_S", "BETWEEN_TOKENS_S", "JOB_S"])
def test_bounds_rise_and_are_few(name):
    bounds = getattr(histogram, name)
    assert list(bounds) == sorted(set(bounds))
    assert 10 <= len(bounds) <= 20
