"""How long an idle model stays, in every way people write it."""

from __future__ import annotations

import pytest

from tasks.keep_alive import FOREVER, optional, seconds


@pytest.mark.parametrize(
    ("written", "means"),
    [
        (300, 300),
        (0, 0),
        (2.5, 2.5),
        (-1, FOREVER),
        (-7, FOREVER),
        ("5m", 300),
        ("1h30m", 5400),
        ("500ms", 0.5),
        (" 24h ", 86400),
        ("90", 90),
        ("0", 0),
        ("-1", FOREVER),
        ("-1m", FOREVER),
        ("0s", 0),
    ],
)
def test_times(written, means):
    assert seconds(written) == means


@pytest.mark.parametrize(
    "bad", ["", "soon", "5 m", "5d", True, [], {}, None, float("nan"), float("inf"), "inf", "9" * 99]
)
def test_what_is_no_time(bad):
    with pytest.raises(ValueError, match="it is no time"):
        seconds(bad)


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_nothing_said(nothing):
    assert optional(nothing) is None
    assert optional(0) == 0
