"""Waiting in tests: poll with a deadline, never sleep for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 30.0  # costs nothing where all is well, and a busy machine takes its time


def until(probe: Callable[[], T], timeout_s: float = PATIENCE_S, every_s: float = 0.005) -> T:
    """The first truthy value of `probe`. Raises AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {timeout_s} s")
        time.sleep(every_s)
