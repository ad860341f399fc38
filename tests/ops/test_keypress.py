"""Single keys, on a terminal of our own."""

from __future__ import annotations

import os
import pty
import termios

from ops.keypress import Keys


def test_a_key_comes_without_enter_and_the_terminal_is_as_before() -> None:
    mine, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        with Keys(theirs) as keys:
            assert termios.tcgetattr(theirs) != before
            assert keys.wait(0.0) == ""
            os.write(mine, b"qx")
            assert (keys.wait(30.0), keys.wait(30.0)) == ("q", "x")
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(mine)
        os.close(theirs)


def test_without_a_terminal_nothing_comes() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"q")
        with Keys(reader) as keys:
            assert keys.wait(0.0) == ""
    finally:
        os.close(reader)
        os.close(writer)
