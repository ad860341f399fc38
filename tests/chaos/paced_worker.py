"""A real worker process whose engine takes its time: `python -m tests.chaos.paced_worker`.

Everything is real but the speed: a decode of the tests' tiny model takes no time at all, and a stream that is over in
milliseconds cannot be disturbed. `CHAOS_STEP_S`: seconds a step takes; `CHAOS_LOAD_S`: seconds that loading a model
takes; `CHAOS_EMBED_S`: seconds that a batch of embeddings takes.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from worker import loader
from worker.engine.pooling import PoolingContext
from worker.engine.runner import Runner
from worker.process import _entry


def pace(step_s: float, load_s: float, embed_s: float) -> None:
    run, load, embed = Runner.run, loader.Loader.load, PoolingContext.run

    def slow_run(runner: Runner, plan: Any) -> Any:
        time.sleep(step_s)
        return run(runner, plan)

    def slow_load(made: loader.Loader, *args: Any) -> Any:
        time.sleep(load_s)
        return load(made, *args)

    def slow_embed(context: PoolingContext, inputs: Any) -> Any:
        time.sleep(embed_s)
        return embed(context, inputs)

    PoolingContext.run = slow_embed  # type: ignore[method-assign]
    Runner.run = slow_run  # type: ignore[method-assign]
    loader.Loader.load = slow_load  # type: ignore[method-assign]


if __name__ == "__main__":
    step, load, embed = (
        float(os.environ.get(f"CHAOS_{name}_S", default))
        for name, default in (("STEP", "0.03"), ("LOAD", "0"), ("EMBED", "0"))
    )
    pace(step, load, embed)
    sys.exit(_entry())
