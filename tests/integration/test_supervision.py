"""Nothing outlives its supervisor: real processes, the real Redis binary, the supervisor ended in every way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]

# Redis, and two workers in Python that refuse SIGTERM, below a supervisor with a state file and a lock.
STACK = """
import sys
from functools import partial
from pathlib import Path
from ops import embedded_redis, probes, stack
from ops.foreground import Foreground
from ops.home_lock import HomeLock
from ops.launch import Launch
from ops.node_state import NodeState
from worker.children import ChildSpec

home = Path(sys.argv[1])
server = embedded_redis.prepare(home)
node = stack.Node(home, "wrk-1", server.url, home / "models")
code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
specs = [stack.redis_spec(node, server, partial(probes.redis_ready, server.url))]
for n in range(2):
    argv = (sys.executable, "-c", code)
    name = f"worker-cpu{n}"
    specs.append(ChildSpec(name, "worker", argv, node.log(name), needs=("redis",), grace_s=0.3))
state = NodeState(node="wrk-1", redis_url=server.url)
with HomeLock(home, "pendra up"):
    launch = Launch(home=home, specs=tuple(specs), state=state, workers=2)
    Foreground(launch, on_ready=lambda: print("all ready", flush=True)).run()
"""


def eventually(look: Callable[[], bool], timeout: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + timeout
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Supervised:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.out = home / "out"
        home.mkdir()
        with self.out.open("w") as out:
            argv = [sys.executable, "-c", STACK, str(home)]
            self.process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT)
        assert eventually(lambda: self.says("all ready")), self.out.read_text()
        deaf = [home / "logs" / f"worker-cpu{n}.log" for n in range(2)]
        assert eventually(lambda: all("deaf" in path.read_text() for path in deaf))

    def says(self, words: str) -> bool:
        return words in self.out.read_text()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.home / "run" / "state.json").read_text()))


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    made = Supervised(tmp_path / "home")
    yield made
    made.process.kill()
    made.process.wait()


@pytest.mark.integration
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_of_it_in_order(supervised: Supervised, how: signal.Signals) -> None:
    children = supervised.children()
    supervised.process.send_signal(how)
    assert supervised.process.wait(PATIENCE_S) == 0
    assert all(map(gone, children))
    assert not (supervised.home / "run" / "state.json").exists()


@pytest.mark.integration
def test_killed_itself_it_leaves_nothing(supervised: Supervised) -> None:
    children = supervised.children()
    assert len(children) == 3
    supervised.process.kill()
    supervised.process.wait()
    assert eventually(lambda: all(map(gone, children))), [c.cmdline() for c in children if not gone(c)]


@pytest.mark.integration
def test_started_again_after_a_kill_it_comes_up_in_the_same_home(supervised: Supervised) -> None:
    supervised.process.kill()
    supervised.process.wait()
    again = subprocess.Popen([sys.executable, "-c", STACK, str(supervised.home)], stdout=subprocess.PIPE, text=True)
    assert again.stdout is not None
    with again.stdout:
        assert any("all ready" in line for line in again.stdout)
        again.terminate()
        assert again.wait(PATIENCE_S) == 0


@pytest.mark.integration
@pytest.mark.parametrize("name", ["redis", "worker-cpu1"])
def test_a_killed_part_is_replaced_and_the_state_file_says_so(supervised: Supervised, name: str) -> None:
    def pid() -> int | None:
        part = next(part for part in supervised.state()["parts"] if part["name"] == name)
        return part["pid"] if part["state"] == "ready" else None

    old = pid()
    assert old
    os.kill(old, signal.SIGKILL)
    assert eventually(lambda: pid() not in {None, old})
    assert eventually(lambda: supervised.says("killed by SIGKILL; starts again in 0.5 s"))
    assert eventually(lambda: supervised.says("ready    again"))
