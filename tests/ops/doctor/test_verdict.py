"""Only a failure changes the exit status."""

from __future__ import annotations

from ops.doctor.verdict import exit_code, failed, ok, skipped, warning


def test_warnings_are_no_failure():
    assert exit_code([ok("a", "x"), warning("b", "x", "y"), skipped("c", "x")]) == 0
    assert exit_code([ok("a", "x"), failed("b", "x", "y")]) == 1
    assert exit_code([]) == 0
