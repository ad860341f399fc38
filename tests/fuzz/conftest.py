"""The fuzzers' counts are told at the end of the run; docs/security.md records those of `make fuzz`."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.fuzz.cases import Fuzzer, hang, seed

_COUNTS: dict[str, int] = {}


@pytest.fixture
def fuzzer(request: pytest.FixtureRequest) -> Iterator[Fuzzer]:
    before = signal.signal(signal.SIGALRM, hang)
    try:
        yield Fuzzer(request.node.name, _COUNTS)
    finally:
        signal.signal(signal.SIGALRM, before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _COUNTS:
        return
    terminalreporter.section(f"fuzzing, FUZZ_SEED={seed()}")
    for name, count in _COUNTS.items():
        terminalreporter.line(f"{count:>9,}  {name}")
    terminalreporter.line(f"{sum(_COUNTS.values()):>9,}  cases")
