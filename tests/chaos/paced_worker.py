"""A real worker process whose engine takes its time: `python -m tests.chaos.paced_worker`.

Everything is real but the speed: a decode of the tests' tiny model takes no time at all, and a stream that is over in
milliseconds cannot be disturbed. `CHAOS_STEP_S`: seconds a step takes; `CHAOS_LOAD_S`: seconds that loading a model
takes.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from worker import loader
from worker.engine.runner import Runner
from worker.process import _entry


def pace(step_s: float, load_s: float) -> None:
    run, load = Runner.run, loader.Loader.load

    def slow_run(runner: Runner, plan: Any) -> Any:
        time.sleep(step_s)
        return run(runner, plan)

    def slow_load(made: loader.Loader, *args: Any) -> Any:
        time.sleep(load_s)
        return load(made, *args)

    Runner.run = slow_run  # type: ignore[method-assign]
    loader.Loader.load = slow_load  # type: ignore[method-assign]


if __name__ == "__main__":
    pace(float(os.environ.get("CHAOS_STEP_S", "0.03")), float(os.environ.get("CHAOS_LOAD_S", "0")))
    sys.exit(_entry())
