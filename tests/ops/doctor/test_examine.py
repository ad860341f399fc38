"""Checks run at once; one that breaks or hangs hides nothing of the others."""

from __future__ import annotations

import threading

from ops.doctor.examine import examine
from ops.doctor.verdict import Level, ok


def test_verdicts_come_in_the_checks_order_whoever_is_first():
    second_done = threading.Event()

    def first():
        second_done.wait(10)
        return [ok("first", "x")]

    def second():
        second_done.set()
        return [ok("second", "x")]

    assert [verdict.check for verdict in examine({"first": first, "second": second})] == ["first", "second"]


def test_a_check_that_breaks_says_where_and_quotes_nothing():
    def broken():
        raise ValueError("redis://:password@host")

    (verdict,) = examine({"broken": broken})
    assert (verdict.level, "ValueError" in verdict.found) == (Level.FAILED, True)
    assert "password" not in verdict.model_dump_json()


def test_a_check_that_hangs_is_given_up():
    never = threading.Event()
    verdicts = examine({"hangs": lambda: never.wait() or [], "fine": lambda: [ok("fine", "x")]}, limit_s=1.0)
    assert [(verdict.check, verdict.level) for verdict in verdicts] == [("hangs", Level.FAILED), ("fine", Level.OK)]
    never.set()
