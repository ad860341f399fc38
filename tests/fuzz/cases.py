"""Runs a fuzzer's cases, each from a seed of its own, and watches for hangs and growth.

`make test` runs a sample that is the same every time, `make fuzz` (`FUZZ=full`) all of them, from another seed every
time. `FUZZ_SEED` repeats a run: a case follows from the seed, the fuzzer's name and the case's number.
"""

from __future__ import annotations

import gc
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType

import psutil

from tasks.errors import PendraError

MIB = 1024 * 1024
HANG_S = 30.0
GROWTH_BYTES = 48 * MIB
_WARM = 0.4  # of the cases; until then caches fill


class HangError(Exception):
    pass


def full() -> bool:
    return os.environ.get("FUZZ") == "full"


def seed() -> str:
    """Of this run; `FUZZ_SEED`, else a fixed one for the sample, and a new one for all cases."""
    return os.environ.setdefault("FUZZ_SEED", secrets.token_hex(4) if full() else "sample")


class Fuzzer:
    """`counts`: where the cases that ran are counted, by name."""

    def __init__(self, name: str, counts: dict[str, int]) -> None:
        self.name = name
        self._counts = counts

    def run(self, case: Callable[[Random], object], *, sample: int, all_of_them: int) -> None:
        """`case` raises when something is wrong, and the exception then says how to see that again."""
        for rng in self._cases(sample, all_of_them):
            with self._watched():
                case(rng)

    async def run_async(self, case: Callable[[Random], Awaitable[object]], *, sample: int, all_of_them: int) -> None:
        for rng in self._cases(sample, all_of_them):
            with self._watched():
                await case(rng)

    def _cases(self, sample: int, all_of_them: int) -> Iterator[Random]:
        count = all_of_them if full() else sample
        before = 0
        for number in range(count):
            if number == round(count * _WARM):
                before = resident()
            self._number = number
            yield Random(f"{seed()}:{self.name}:{number}")
            self._counts[self.name] = self._counts.get(self.name, 0) + 1
        grown = resident() - before
        assert grown < GROWTH_BYTES, f"{self.name}: {grown / MIB:.0f} MiB more after {count} cases"

    @contextmanager
    def _watched(self) -> Iterator[None]:
        signal.setitimer(signal.ITIMER_REAL, HANG_S)
        try:
            yield
        except BaseException as exc:
            exc.add_note(
                f"case {self._number} of {self.name}; again: FUZZ={'full' if full() else ''} FUZZ_SEED={seed()}"
            )
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def refused_well(problem: PendraError, code: str, secret: str) -> None:
    """A refusal has its stable code, and quotes nothing of what was sent."""
    assert problem.code == code
    assert secret not in f"{problem!r} {problem.message} {problem.param}"


def quotes_nothing(exc: Exception, secret: str) -> None:
    assert secret not in f"{exc!r} {exc}"


def hang(_number: int, _frame: FrameType | None) -> None:
    """The signal handler while fuzzers run."""
    raise HangError(f"no end after {HANG_S:g} s")


def resident() -> int:
    """Bytes of memory this process holds, without what is only waiting for the collector."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)
