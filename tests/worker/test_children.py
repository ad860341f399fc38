"""When a dead child comes back, and what a person reads about its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.children import Backoff, ChildSpec, describe_exit


def test_delays_double_up_to_a_ceiling() -> None:
    backoff = Backoff(first_s=0.5, ceiling_s=30)
    assert [backoff.delay(n) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.delay(10_000) == 30


def test_a_healthy_life_forgives_earlier_failures() -> None:
    backoff = Backoff(healthy_s=30)
    assert backoff.failures(6, ran_s=29.9) == 7
    assert backoff.failures(6, ran_s=30) == 1
    assert backoff.failures(0, ran_s=0) == 1


def test_a_crash_loop_is_a_row_of_failures() -> None:
    backoff = Backoff(loop_after=5)
    assert [backoff.crash_loop(n) for n in (1, 4, 5, 6)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit 0"), (3, "exit 3"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")]
)
def test_exit_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_a_spec_does_not_show_its_environment(tmp_path: Path) -> None:
    spec = ChildSpec("bridge", "bridge", ("true",), tmp_path / "log", env={"GPU_WORKER_PRIVATE_KEY": "hush"})
    assert "hush" not in repr(spec)
