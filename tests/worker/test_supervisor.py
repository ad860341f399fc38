"""The supervisor, with real processes: order, restarts, crash loops, graceful and forced ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.fakes.waiting import PATIENCE_S
from worker import supervisor
from worker.children import Backoff, Change, ChildSpec, Restart, Run, State
from worker.supervisor import ChildFailedError, Supervisor

QUICK = Backoff(first_s=0.05, ceiling_s=0.2, healthy_s=60, loop_after=3)
SLEEP = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


class Bench:
    """Specs below a temporary folder, every change kept, and a loop that ends at a condition or a deadline."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes: list[Change] = []
        self.supervisor: Supervisor | None = None

    def spec(self, name: str, code: str = SLEEP, **fields: object) -> ChildSpec:
        role = str(fields.pop("role", name))
        argv = (sys.executable, "-c", code)
        return ChildSpec(name, role, argv, self.folder / f"{name}.log", **fields)  # type: ignore[arg-type]

    def start(self, *specs: ChildSpec, **options: object) -> Supervisor:
        self.supervisor = Supervisor(specs, on_change=self.changes.append, backoff=QUICK, **options)  # type: ignore[arg-type]
        return self.supervisor

    def drive(self, until: Callable[[], bool], timeout: float = PATIENCE_S) -> None:
        assert self.supervisor is not None
        deadline = time.monotonic() + timeout
        while not until():
            assert time.monotonic() < deadline, [(c.spec.name, c.state) for c in self.changes]
            self.supervisor.tick(time.monotonic())
            time.sleep(0.01)

    def drive_to_the_end(self) -> None:
        assert self.supervisor is not None
        self.supervisor.stop()
        self.drive(lambda: all(child.state is State.STOPPED for child in self.supervisor.children.values()))

    def pid(self, name: str) -> int:
        assert self.supervisor is not None
        pid = self.supervisor.children[name].pid
        assert pid is not None
        return pid

    def states(self, name: str) -> list[State]:
        return [change.state for change in self.changes if change.spec.name == name]

    def log_says(self, name: str, words: str) -> bool:
        path = self.folder / f"{name}.log"
        return path.exists() and words in path.read_text()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    if made.supervisor is not None:
        made.supervisor.__exit__(None, None, None)


def test_a_child_waits_for_what_it_needs(bench: Bench) -> None:
    gate = threading.Event()
    first = bench.spec("first", ready=lambda _run: gate.is_set())
    up = bench.start(first, bench.spec("second", needs=("first",)))
    bench.drive(lambda: bench.states("first") == [State.STARTING])
    assert bench.states("second") == []
    gate.set()
    bench.drive(lambda: up.all_ready)
    assert [(c.spec.name, c.state) for c in bench.changes] == [
        ("first", State.STARTING),
        ("first", State.READY),
        ("second", State.STARTING),
        ("second", State.READY),
    ]


def test_the_ready_check_knows_this_life(bench: Bench) -> None:
    seen: list[Run] = []
    before = time.time()
    up = bench.start(bench.spec("one", ready=lambda run: not seen.append(run)))
    bench.drive(lambda: up.all_ready)
    assert seen[0].pid == bench.pid("one")
    assert before <= seen[0].started_at <= time.time()


def test_a_killed_child_is_restarted(bench: Bench) -> None:
    up = bench.start(bench.spec("one"))
    bench.drive(lambda: up.all_ready)
    old = bench.pid("one")
    os.kill(old, signal.SIGKILL)
    bench.drive(lambda: bench.states("one")[-2:] == [State.STARTING, State.READY] and bench.pid("one") != old)
    died = next(change for change in bench.changes if change.state is State.BACKOFF)
    assert (died.pid, died.exit_code, died.delay_s, died.failures) == (old, -signal.SIGKILL, 0.05, 1)


def test_restarts_back_off_and_a_crash_loop_is_named_with_its_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.start(bench.spec("bad", "import sys; print('a secret'); sys.exit(3)"))
    bench.drive(lambda: bench.states("bad").count(State.BACKOFF) >= 4)
    delays = [change.delay_s for change in bench.changes if change.state is State.BACKOFF]
    assert delays[:4] == [0.05, 0.1, 0.2, 0.2]
    assert "child.crash_loop" in caplog.text
    assert str(bench.folder / "bad.log") in caplog.text
    assert "a secret" not in caplog.text
    assert bench.log_says("bad", "a secret")


def test_a_child_that_never_starts_ends_everything_and_is_named(bench: Bench) -> None:
    bad = bench.spec("bad", "raise SystemExit(3)", ready=lambda _run: False)
    up = bench.start(bench.spec("good"), bad, start_attempts=2)
    with pytest.raises(ChildFailedError, match=r"bad .*exit 3.*bad\.log"):
        up.run()
    assert bench.states("good")[-1] is State.STOPPED


def test_a_child_that_was_ready_once_is_restarted_for_ever(bench: Bench) -> None:
    up = bench.start(bench.spec("flaky", "raise SystemExit(1)"), start_attempts=2)
    bench.drive(lambda: bench.states("flaky").count(State.BACKOFF) >= 3)
    assert not up.all_ready or bench.states("flaky").count(State.READY) >= 3


def test_no_restart_when_not_wanted(bench: Bench) -> None:
    bench.start(bench.spec("once", "pass", restart=Restart.NEVER))
    bench.drive(lambda: bench.states("once")[-1:] == [State.STOPPED])
    assert bench.changes[-1].exit_code == 0


def test_stops_in_reverse_order_role_by_role(bench: Bench) -> None:
    specs = [bench.spec("redis"), *(bench.spec(f"w{n}", role="worker") for n in range(2))]
    up = bench.start(*specs)
    bench.drive(lambda: up.all_ready)
    bench.changes.clear()
    bench.drive_to_the_end()
    order = [(c.spec.role, c.state) for c in bench.changes]
    assert sorted(order[:2]) == [("worker", State.STOPPING)] * 2
    assert order[-2:] == [("redis", State.STOPPING), ("redis", State.STOPPED)]
    assert all(change.exit_code == -signal.SIGTERM for change in bench.changes if change.state is State.STOPPED)


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(bench: Bench) -> None:
    up = bench.start(bench.spec("deaf", DEAF, grace_s=0.3))
    bench.drive(lambda: up.all_ready and bench.log_says("deaf", "deaf"))
    asked = time.monotonic()
    bench.drive_to_the_end()
    assert bench.changes[-1].exit_code == -signal.SIGKILL
    assert time.monotonic() - asked >= 0.3


def test_a_second_signal_comes_before_the_kill(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_HURRY_S", PATIENCE_S)
    code = (
        "import signal, sys, time; asked = [];"
        "signal.signal(15, lambda *_: asked.append(1) or (len(asked) > 1 and sys.exit(5)));"
        "print('up', flush=True)\nwhile True: time.sleep(600)"
    )
    up = bench.start(bench.spec("worker", code, grace_s=0.2))
    bench.drive(lambda: up.all_ready and bench.log_says("worker", "up"))
    bench.drive_to_the_end()
    assert bench.changes[-1].exit_code == 5


def test_a_wrong_setting_is_not_tried_again(bench: Bench) -> None:
    up = bench.start(bench.spec("bad", "raise SystemExit(78)", ready=lambda _run: False), start_attempts=3)
    with pytest.raises(ChildFailedError, match="exit 78 at attempt 1"):
        up.run()


def test_a_second_stop_cuts_the_grace_short(bench: Bench) -> None:
    specs = [bench.spec("redis", DEAF, grace_s=60), bench.spec("worker", DEAF, grace_s=60)]
    up = bench.start(*specs)
    bench.drive(lambda: bench.log_says("redis", "deaf") and bench.log_says("worker", "deaf"))
    up.stop()
    bench.drive(lambda: bench.states("worker")[-1] is State.STOPPING)
    assert bench.states("redis")[-1] is State.READY
    bench.drive_to_the_end()
    assert {bench.changes[-1].exit_code, bench.changes[-2].exit_code} == {-signal.SIGKILL}


def test_a_childs_children_go_with_it(bench: Bench) -> None:
    code = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    up = bench.start(bench.spec("parent", code + "print(p.pid, flush=True); p.wait()"))
    bench.drive(lambda: up.all_ready and bench.log_says("parent", "\n"))
    grandchild = psutil.Process(int((bench.folder / "parent.log").read_text()))
    os.kill(bench.pid("parent"), signal.SIGKILL)
    bench.drive(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_children_get_their_environment_and_not_what_is_withheld(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WITHHELD", "secret")
    monkeypatch.setenv("INHERITED", "yes")
    code = "import os; print([os.environ.get(n) for n in ('WITHHELD', 'INHERITED', 'OWN')], flush=True)"
    bench.start(bench.spec("one", f"{code}; {SLEEP}", env={"OWN": "mine"}, drop_env=("WITHHELD",)))
    bench.drive(lambda: bench.log_says("one", "[None, 'yes', 'mine']"))


def test_a_signal_stops_it_and_the_handlers_are_put_back(bench: Bench) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD)

    def interrupt_when_ready(change: Change) -> None:
        bench.changes.append(change)
        if change.state is State.READY:
            signal.raise_signal(signal.SIGINT)

    up = Supervisor([bench.spec("one")], on_change=interrupt_when_ready)
    up.run()
    assert bench.states("one") == [State.STARTING, State.READY, State.STOPPING, State.STOPPED]
    after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD)
    assert after == before


def test_stop_from_another_thread_wakes_the_loop(bench: Bench) -> None:
    ready = threading.Event()

    def tell(change: Change) -> None:
        if change.state is State.READY:
            ready.set()

    up = Supervisor([bench.spec("one")], on_change=tell)
    stopper = threading.Thread(target=lambda: (ready.wait(PATIENCE_S), up.stop()))
    stopper.start()
    up.run()
    stopper.join(PATIENCE_S)


def test_an_error_in_a_callback_leaves_no_child(bench: Bench) -> None:
    pids: list[int] = []

    def fail(change: Change) -> None:
        pids.append(change.pid or 0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Supervisor([bench.spec("one")], on_change=fail).run()
    assert not psutil.pid_exists(pids[0])


def test_a_long_log_is_moved_aside_at_the_start(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker import spawn

    path = bench.folder / "one.log"
    path.write_text("x" * 100)
    spawn.rotate(path, limit=100)
    assert path.exists()
    spawn.rotate(path, limit=99)
    assert not path.exists()
    assert (bench.folder / "one.log.1").read_text() == "x" * 100
