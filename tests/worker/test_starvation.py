"""Waiting for a CPU: read from the kernel, thread by thread."""

from __future__ import annotations

from pathlib import Path

from worker.starvation import TASKS, Starvation

SECOND = 1_000_000_000


class Kernel:
    """Two threads' files, and the time."""

    def __init__(self, tasks: Path) -> None:
        self._tasks = tasks
        self.now = 0

    def waited(self, **seconds: float) -> None:
        for name, waited in seconds.items():
            (self._tasks / name).mkdir(exist_ok=True)
            (self._tasks / name / "schedstat").write_text(f"123456 {int(waited * SECOND)} 7\n")

    def clock(self) -> int:
        return self.now


def test_the_thread_that_waited_most_counts(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.waited(a=5.0, b=0.0)
    starvation = Starvation(tmp_path, kernel.clock)
    kernel.now += SECOND
    assert starvation.share() == 0.0, "nothing to compare with yet"
    kernel.now += 2 * SECOND
    kernel.waited(a=5.2, b=1.5)
    assert starvation.share() == 0.75
    kernel.now += SECOND
    assert starvation.share() == 0.0


def test_threads_come_and_go(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.waited(a=1.0)
    starvation = Starvation(tmp_path, kernel.clock)
    starvation.share()
    kernel.now += SECOND
    kernel.waited(new=9.0)
    (tmp_path / "a" / "schedstat").unlink()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "schedstat").write_text("something else")
    assert starvation.share() == 0.0


def test_a_system_that_does_not_say_starves_nobody(tmp_path: Path) -> None:
    assert Starvation(tmp_path / "none").share() == 0.0


def test_the_real_files_are_understood() -> None:
    starvation = Starvation()
    starvation.share()
    assert 0.0 <= starvation.share() <= 1.0
    assert bool(starvation._waited) == any(TASKS.glob("*/schedstat"))
