"""Where the engine's thread spends its time between two `llama_decode` calls: `python -m bench.steps`.

Counts, for steps in which so many sequences decode and nothing else happens, the time between the end of one decode
and the start of the next, without the native calls in between. Target: 0.3 ms + 0.03 ms a running sequence. With
`--profile` also the Python functions that took it.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import threading
import time
from collections.abc import Callable
from functools import wraps
from statistics import median
from typing import Any

from bench.inprocess import InProcess
from bench.load import burst
from bench.servers import SMOLLM
from worker.engine import native
from worker.engine.core import Core

_NATIVE = ("get_logits", "memory_seq_rm", "sampler_apply", "sampler_accept", "sampler_sample")


class Stopwatch:
    """Wraps the native calls and the engine's step; engine thread only."""

    def __init__(self) -> None:
        self.between: list[float] = []
        self._inside = 0.0
        self._left: float | None = None

    def install(self) -> None:
        for name in _NATIVE:
            setattr(native, name, self._timed(getattr(native, name)))
        native.decode = self._decode(native.decode)

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call, assigned=())
        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args)
            finally:
                self._inside += time.perf_counter() - began

        return timed

    def _decode(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def decode(ctx: Any, batch: Any) -> Any:
            if self._left is not None and batch.n_tokens == self.expect:
                self.between.append(time.perf_counter() - self._left - self._inside)
            result = call(ctx, batch)
            self._inside = 0.0
            self._left = time.perf_counter() if batch.n_tokens == self.expect else None
            return result

        return decode

    expect = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    watch = Stopwatch()
    watch.install()
    profile = cProfile.Profile()
    engine = InProcess(SMOLLM, slots=max(args.levels), ctx_per_seq=512, threads=args.threads)
    if args.profile:
        _profile_engine_thread(profile)
    print("| running | Python between decodes, ms (median) | target, ms |\n|---|---|---|")
    for level in args.levels:
        watch.expect, watch.between = level, []
        engine.run(burst(level, args.tokens))
        print(f"| {level} | {1000 * median(watch.between):.3f} | {0.3 + 0.03 * level:.2f} |")
    engine.close()
    if args.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)


def _profile_engine_thread(profile: cProfile.Profile) -> None:
    step = Core.step

    def profiled(self: Core) -> None:
        assert threading.current_thread().name == "pendra-engine"
        profile.enable()
        try:
            step(self)
        finally:
            profile.disable()

    Core.step = profiled  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
